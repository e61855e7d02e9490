//! Receiving signals in order to pass them on.
//!
//! Signals are blocked and taken one by one, with their origin: what the terminal sends, such
//! as Ctrl-C, reaches every process in the foreground, so only the rest has to be passed on.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use rustix::process::{Pid, kill_process};

/// What is passed on.
const PASSED_ON: [libc::c_int; 6] =
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];

/// The signals of this process, blocked until they are taken. The former mask comes back at
/// the end; a started command begins with it.
pub(super) struct Signals {
    set: libc::sigset_t,
    former: Mask,
}

/// Which signals were blocked before.
#[derive(Clone, Copy)]
pub(super) struct Mask(libc::sigset_t);

impl Mask {
    /// Blocks just these in the calling thread. Async-signal-safe.
    pub(super) fn set(&self) -> io::Result<()> {
        // SAFETY: it is a mask that the kernel gave.
        match unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut())
        } {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// One signal that came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// The command may have ended.
    ChildChanged,
    /// One to pass on.
    Other {
        number: i32,
        /// The kernel sent it for the terminal, to all processes in the foreground.
        from_terminal: bool,
    },
}

impl Signals {
    /// Blocks the signals for this thread, which must be the one that takes them.
    pub(super) fn block() -> io::Result<Self> {
        let mut set = MaybeUninit::uninit();
        let mut former = MaybeUninit::uninit();
        // Where the parent ignored SIGCHLD, the kernel would take the exit status for itself.
        // SAFETY: it installs no handler.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
        // SAFETY: `sigemptyset` initialises the set before it is used, `pthread_sigmask`
        // initialises `former` when it succeeds, and both outlive the calls.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for number in PASSED_ON.into_iter().chain([libc::SIGCHLD]) {
                libc::sigaddset(set.as_mut_ptr(), number);
            }
            let error = libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), former.as_mut_ptr());
            if error != 0 {
                return Err(io::Error::from_raw_os_error(error));
            }
            Ok(Self { set: set.assume_init(), former: Mask(former.assume_init()) })
        }
    }

    /// Which signals were blocked before.
    pub(super) fn former_mask(&self) -> Mask {
        self.former
    }

    /// Waits for the next signal.
    pub(super) fn next(&self) -> io::Result<Signal> {
        let mut info = MaybeUninit::<libc::siginfo_t>::uninit();
        loop {
            // SAFETY: both point to memory that outlives the call; `info` is initialised when
            // it succeeds.
            let number = unsafe { libc::sigwaitinfo(&self.set, info.as_mut_ptr()) };
            match number {
                libc::SIGCHLD => return Ok(Signal::ChildChanged),
                // SAFETY: the call succeeded.
                1.. => {
                    let code = unsafe { info.assume_init_ref() }.si_code;
                    // A terminal that hangs up tells the leader of its session alone.
                    let from_terminal = code == libc::SI_KERNEL && number != libc::SIGHUP;
                    return Ok(Signal::Other { number, from_terminal });
                }
                _ => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let _ = self.former.set();
    }
}

/// Sends a signal to a child that was not waited for, so that its PID is still its own.
pub(super) fn send(pid: u32, number: i32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let signal = rustix::process::Signal::from_named_raw(number);
    if let (Some(pid), Some(signal)) = (pid, signal) {
        // It may have ended already; then there is nobody left to tell.
        let _ = kill_process(pid, signal);
    }
}
