//! Looks like an inference server to whoever reads `/proc`, and answers like one on `--port`.
//! Tests start it with the arguments of the real ones, `argv[0]` included. It ends with its
//! input.
//!
//! When it and all below it are there, it says `ready` and the PIDs, its own first.
//!
//! `STAND_IN_CHILDREN` and `STAND_IN_GRANDCHILDREN` hold command lines, one a line, of which
//! each is started with this process, or with the first child, as its parent. What stands behind
//! ` => ` is the title with which that process overwrites its command line. Only the last of
//! those with the same `--port` listens. Requests are answered with the files in
//! `STAND_IN_ANSWERS`, and noted in its file `asked`. With `STAND_IN_SILENT` it listens and never
//! answers. `STAND_IN_PORT` is a port without an option for it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::{env, fs, process, ptr, thread};

const METRICS: &str = "# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine=\"0\",model_name=\"a } b\"} 1.0
vllm:num_requests_running{engine=\"1\",model_name=\"a } b\"} 1.0
vllm:num_requests_waiting{engine=\"0\"} 3
vllm:kv_cache_usage_perc{engine=\"0\"} 0.25
llamacpp:requests_processing 2
llamacpp:requests_deferred 3
sglang:num_running_reqs{tp_rank=\"0\"} 2
sglang:num_running_reqs{tp_rank=\"1\"} 2
sglang:num_queue_reqs 3
sglang:token_usage 0.25
tgi_batch_current_size 2
tgi_queue_size 3
";
const SLOTS: &str = r#"[{"id":0,"is_processing":true},{"id":1,"is_processing":false}]"#;

fn main() -> io::Result<()> {
    let arguments: Vec<String> =
        env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let lines = env::var("STAND_IN_CHILDREN").unwrap_or_default();
    if let Some(port) = port(&arguments, &lines) {
        let listener = TcpListener::bind(("127.0.0.1", port.parse().map_err(io::Error::other)?))?;
        thread::spawn(move || serve(&listener));
    }
    if let Ok(title) = env::var("STAND_IN_TITLE") {
        set_title(title.as_bytes())?;
    }
    let mut children = Vec::new();
    let mut pids = process::id().to_string();
    let grandchildren = env::var("STAND_IN_GRANDCHILDREN").unwrap_or_default();
    for (index, line) in lines.lines().enumerate() {
        let (line, title) = line.split_once(" => ").unwrap_or((line, ""));
        let mut words = line.split(' ');
        let mut command = Command::new(env::current_exe()?);
        command.arg0(words.next().unwrap_or_default()).args(words).stdin(Stdio::piped());
        for inherited in ["GRANDCHILDREN", "CHILDREN", "PORT", "TITLE"] {
            command.env_remove(format!("STAND_IN_{inherited}"));
        }
        if index == 0 {
            command.env("STAND_IN_CHILDREN", &grandchildren);
        }
        if !title.is_empty() {
            command.env("STAND_IN_TITLE", title);
        }
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
        let mut ready = String::new();
        BufReader::new(stdout).read_line(&mut ready)?;
        pids += ready.trim_end().strip_prefix("ready").ok_or_else(|| io::Error::other(ready.clone()))?;
        children.push(child);
    }
    println!("ready {pids}");
    io::stdin().read_to_end(&mut Vec::new())?;
    for child in &mut children {
        drop(child.stdin.take());
        child.wait()?;
    }
    Ok(())
}

/// The port to listen on, unless a child does.
fn port(arguments: &[String], children: &str) -> Option<String> {
    if let Ok(port) = env::var("STAND_IN_PORT") {
        return Some(port);
    }
    let at = arguments.iter().position(|argument| argument == "--port")?;
    let port = arguments.get(at + 1)?;
    let is_left = |line: &str| line.contains(&format!("--port {port}"));
    (!children.lines().any(is_left)).then(|| port.clone())
}

/// Overwrites the command line and the name, as Python's `setproctitle` does.
fn set_title(title: &[u8]) -> io::Result<()> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap_or(0)..].split(' ').collect();
    // Where the arguments begin and end in memory are fields 48 and 49, counted from 1.
    let address = |field: usize| fields[field - 2].parse::<usize>().map_err(io::Error::other);
    let (start, end) = (address(48)?, address(49)?);
    let length = title.len().min(end - start - 1);
    let arguments = ptr::with_exposed_provenance_mut::<u8>(start);
    // SAFETY: the kernel put the arguments there, writable, for as long as the process lives, and
    // nothing in this program keeps a reference to them.
    unsafe {
        ptr::write_bytes(arguments, 0, end - start);
        ptr::copy_nonoverlapping(title.as_ptr(), arguments, length);
    }
    fs::write("/proc/self/comm", &title[..length.min(15)])
}

fn serve(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        thread::spawn(move || -> io::Result<()> {
            let mut reader = BufReader::new(stream.try_clone()?);
            let mut stream = stream;
            loop {
                let mut first = String::new();
                if reader.read_line(&mut first)? == 0 {
                    return Ok(());
                }
                let mut line = String::new();
                while reader.read_line(&mut line)? > 2 {
                    line.clear();
                }
                if env::var_os("STAND_IN_SILENT").is_some() {
                    continue;
                }
                let path = first.split(' ').nth(1).unwrap_or_default();
                let answer = match (env::var("STAND_IN_ANSWERS"), path) {
                    (Ok(dir), path) => {
                        let mut options = fs::File::options();
                        let asked = options.create(true).append(true).open(dir.clone() + "/asked");
                        writeln!(asked?, "{path}")?;
                        fs::read_to_string(format!("{dir}{path}")).ok()
                    }
                    (Err(_), "/metrics") => Some(METRICS.to_owned()),
                    (Err(_), "/slots") => Some(SLOTS.to_owned()),
                    (Err(_), _) => None,
                };
                let status = if answer.is_some() { "200 OK" } else { "404 Not Found" };
                let body = answer.unwrap_or_default();
                let length = body.len();
                write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}")?;
            }
        });
    }
}
