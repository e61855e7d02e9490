//! Prepared statements straight on SQLite's own interface, where a hand-over to the connection's
//! thread for every row would cost more than the row: storing heartbeats, sealing, and reading
//! whole ones back.
//!
//! Invariant: a statement is only touched while the handle of its own connection is locked,
//! which the borrow of [`Handle`] proves, and is finalized before that connection closes.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;

use libsqlite3_sys as ffi;
use sqlx::sqlite::LockedSqliteHandle;

use super::checkpoint::Log;

/// The locked handle of a connection.
pub(super) struct Handle<'a> {
    locked: LockedSqliteHandle<'a>,
}

/// What SQLite said.
#[derive(Debug, thiserror::Error)]
#[error("{message} (code {code})")]
pub(super) struct RawError {
    code: c_int,
    message: String,
}

impl RawError {
    /// Whether the statement was stopped from outside, as one that takes too long is.
    pub(super) fn is_interrupt(&self) -> bool {
        self.code == ffi::SQLITE_INTERRUPT
    }
}

impl From<RawError> for sqlx::Error {
    fn from(error: RawError) -> Self {
        Self::Io(std::io::Error::other(error))
    }
}

impl<'a> Handle<'a> {
    pub(super) fn new(locked: LockedSqliteHandle<'a>) -> Self {
        Self { locked }
    }

    fn raw(&mut self) -> *mut ffi::sqlite3 {
        self.locked.as_raw_handle().as_ptr().cast()
    }

    /// Whether a transaction is open.
    pub(super) fn is_in_transaction(&mut self) -> bool {
        // SAFETY: the handle is open.
        unsafe { ffi::sqlite3_get_autocommit(self.raw()) == 0 }
    }

    /// Tells `log` of every commit, instead of SQLite's own copying of the write-ahead log. The
    /// connection must be closed before `log` is given back.
    pub(super) fn on_commit(&mut self, log: &Arc<Log>) {
        let log = Arc::as_ptr(log).cast_mut().cast();
        // SAFETY: the handle is open, and the log lives as long as the connection.
        unsafe { ffi::sqlite3_wal_hook(self.raw(), Some(committed), log) };
    }

    /// Executes SQL that gives no rows.
    pub(super) fn execute(&mut self, sql: &CStr) -> Result<(), RawError> {
        // SAFETY: the handle is open and the text ends with NUL; no callback is given.
        let code =
            unsafe { ffi::sqlite3_exec(self.raw(), sql.as_ptr(), None, null_mut(), null_mut()) };
        if code == ffi::SQLITE_OK { Ok(()) } else { Err(self.error(code)) }
    }

    fn error(&mut self, code: c_int) -> RawError {
        // SAFETY: the handle is open, and the message is copied before anything else is called.
        let message = unsafe { CStr::from_ptr(ffi::sqlite3_errmsg(self.raw())) };
        RawError { code, message: message.to_string_lossy().into_owned() }
    }
}

/// What SQLite calls after a commit.
unsafe extern "C" fn committed(
    log: *mut c_void,
    database: *mut ffi::sqlite3,
    name: *const c_char,
    pages: c_int,
) -> c_int {
    // SAFETY: it was given by `on_commit`, whose caller keeps it alive, and is shared only.
    let log = unsafe { &*log.cast::<Log>() };
    if log.committed(pages.unsigned_abs()) {
        // SAFETY: SQLite gives its own handle and name, and allows this call here. That others
        // read or copy at the same time is no failure of the commit: the rest is copied later.
        unsafe {
            let (pages, copied) = (null_mut(), null_mut());
            ffi::sqlite3_wal_checkpoint_v2(
                database,
                name,
                ffi::SQLITE_CHECKPOINT_PASSIVE,
                pages,
                copied,
            );
        }
    }
    ffi::SQLITE_OK
}

/// A prepared statement.
#[derive(Debug)]
pub(super) struct Statement {
    raw: NonNull<ffi::sqlite3_stmt>,
}

// SAFETY: SQLite is built for use from several threads, and a statement is only used by whoever
// has locked its connection.
unsafe impl Send for Statement {}

impl Statement {
    pub(super) fn prepare(sql: &str, handle: &mut Handle<'_>) -> Result<Self, RawError> {
        let mut raw = null_mut();
        let length = c_int::try_from(sql.len()).unwrap_or(c_int::MAX);
        // SAFETY: the handle is open, and the text is given with its length.
        let code = unsafe {
            ffi::sqlite3_prepare_v3(
                handle.raw(),
                sql.as_ptr().cast(),
                length,
                ffi::SQLITE_PREPARE_PERSISTENT,
                &raw mut raw,
                null_mut(),
            )
        };
        match NonNull::new(raw) {
            Some(raw) if code == ffi::SQLITE_OK => Ok(Self { raw }),
            _ => Err(handle.error(code)),
        }
    }

    /// Executes it once, with the values that `bind` gives it in order.
    pub(super) fn execute<'v>(
        &mut self,
        handle: &mut Handle<'_>,
        bind: impl FnOnce(&mut Values<'_, 'v>),
    ) -> Result<(), RawError> {
        let mut values =
            Values { statement: self, index: 0, code: ffi::SQLITE_OK, values: PhantomData };
        bind(&mut values);
        let bound = values.code;
        // SAFETY: the statement is prepared and its connection locked. What was bound outlives
        // this call: `'v` is longer than it.
        let (stepped, reset) = unsafe {
            let stepped =
                if bound == ffi::SQLITE_OK { ffi::sqlite3_step(self.raw.as_ptr()) } else { bound };
            (stepped, ffi::sqlite3_reset(self.raw.as_ptr()))
        };
        match (stepped, reset) {
            (ffi::SQLITE_DONE | ffi::SQLITE_ROW, ffi::SQLITE_OK) => Ok(()),
            (code, _) => Err(handle.error(code)),
        }
    }

    /// Calls `take` with each row that it gives for the values that `bind` gives it in order.
    pub(super) fn each<'v>(
        &mut self,
        handle: &mut Handle<'_>,
        bind: impl FnOnce(&mut Values<'_, 'v>),
        mut take: impl FnMut(&Row<'_>),
    ) -> Result<(), RawError> {
        let mut values =
            Values { statement: self, index: 0, code: ffi::SQLITE_OK, values: PhantomData };
        bind(&mut values);
        let mut code = values.code;
        // SAFETY: the statement is prepared and its connection locked; a row is read between
        // two steps only. What was bound outlives this call: `'v` is longer than it.
        unsafe {
            if code == ffi::SQLITE_OK {
                code = ffi::sqlite3_step(self.raw.as_ptr());
            }
            while code == ffi::SQLITE_ROW {
                take(&Row { statement: self });
                code = ffi::sqlite3_step(self.raw.as_ptr());
            }
            ffi::sqlite3_reset(self.raw.as_ptr());
        }
        if code == ffi::SQLITE_DONE { Ok(()) } else { Err(handle.error(code)) }
    }
}

/// An INSERT of one row that is also executed for many rows at once: what is appended within one
/// statement finds its place without a search from the root.
#[derive(Debug)]
pub(super) struct Insert {
    one: Statement,
    many: Statement,
}

/// Rows in a statement of many: SQLite takes 32,766 values in one, and the widest row has 12.
const ROWS: usize = 64;

impl Insert {
    /// Prepares an INSERT that ends with its one row of values, each written as `?`.
    pub(super) fn prepare(sql: &str, handle: &mut Handle<'_>) -> Result<Self, RawError> {
        let row = sql.rfind('(').map_or("", |at| &sql[at..]);
        let many = format!("{sql}{}", format!(", {row}").repeat(ROWS - 1));
        Ok(Self { one: Statement::prepare(sql, handle)?, many: Statement::prepare(&many, handle)? })
    }

    /// Inserts all rows, with the values that `bind` gives for each in order.
    pub(super) fn execute<'v, T>(
        &mut self,
        rows: &'v [T],
        handle: &mut Handle<'_>,
        bind: impl Fn(&mut Values<'_, 'v>, &'v T),
    ) -> Result<(), RawError> {
        let (chunks, rest) = rows.as_chunks::<ROWS>();
        for chunk in chunks {
            self.many.execute(handle, |values| chunk.iter().for_each(|row| bind(values, row)))?;
        }
        for row in rest {
            self.one.execute(handle, |values| bind(values, row))?;
        }
        Ok(())
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        // SAFETY: the statement is finalized once, before its connection closes.
        unsafe { ffi::sqlite3_finalize(self.raw.as_ptr()) };
    }
}

/// The values of a statement, bound in order.
#[derive(Debug)]
pub(super) struct Values<'s, 'v> {
    statement: &'s Statement,
    index: c_int,
    code: c_int,
    /// What is bound is not copied, so it must outlive the execution.
    values: PhantomData<&'v [u8]>,
}

impl<'v> Values<'_, 'v> {
    fn bind(&mut self, bind: impl FnOnce(*mut ffi::sqlite3_stmt, c_int) -> c_int) -> &mut Self {
        self.index += 1;
        let code = bind(self.statement.raw.as_ptr(), self.index);
        if code != ffi::SQLITE_OK {
            self.code = code;
        }
        self
    }

    pub(super) fn integer(&mut self, value: i64) -> &mut Self {
        // SAFETY: the statement is prepared and its connection locked.
        self.bind(|statement, index| unsafe { ffi::sqlite3_bind_int64(statement, index, value) })
    }

    pub(super) fn null(&mut self) -> &mut Self {
        // SAFETY: the statement is prepared and its connection locked.
        self.bind(|statement, index| unsafe { ffi::sqlite3_bind_null(statement, index) })
    }

    fn real(&mut self, value: f64) -> &mut Self {
        // SAFETY: the statement is prepared and its connection locked.
        self.bind(|statement, index| unsafe { ffi::sqlite3_bind_double(statement, index, value) })
    }

    pub(super) fn text(&mut self, text: &'v str) -> &mut Self {
        let length = c_int::try_from(text.len()).unwrap_or(c_int::MAX);
        // SAFETY: the text lives for `'v`, longer than the execution; no destructor is given.
        self.bind(|statement, index| unsafe {
            ffi::sqlite3_bind_text(
                statement,
                index,
                text.as_ptr().cast(),
                length,
                ffi::SQLITE_STATIC(),
            )
        })
    }

    pub(super) fn blob(&mut self, bytes: &'v [u8]) -> &mut Self {
        let length = c_int::try_from(bytes.len()).unwrap_or(c_int::MAX);
        // SAFETY: the bytes live for `'v`, longer than the execution; no destructor is given.
        self.bind(|statement, index| unsafe {
            ffi::sqlite3_bind_blob(
                statement,
                index,
                bytes.as_ptr().cast(),
                length,
                ffi::SQLITE_STATIC(),
            )
        })
    }

    /// A figure in thousandths, kept in thousandths.
    pub(super) fn thousandths(&mut self, figure: Option<u64>) -> &mut Self {
        match figure {
            Some(figure) => self.integer(figure.cast_signed()),
            None => self.null(),
        }
    }

    /// A figure in thousandths as INTEGER where it is whole, else as REAL.
    pub(super) fn number(&mut self, figure: Option<u64>) -> &mut Self {
        match figure {
            Some(figure) if figure % 1000 == 0 => self.integer((figure / 1000).cast_signed()),
            Some(figure) => self.real(figure as f64 / 1000.0),
            None => self.null(),
        }
    }

    /// A figure in thousandths: in its unit where it is whole, else in thousandths below zero.
    pub(super) fn whole_or_negative(&mut self, figure: Option<u64>) -> &mut Self {
        match figure {
            Some(figure) if figure % 1000 == 0 => self.integer((figure / 1000).cast_signed()),
            Some(figure) => self.integer(-figure.cast_signed()),
            None => self.null(),
        }
    }
}

/// What stands in the file where a figure should cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damaged;

/// A row, between two steps.
#[derive(Debug)]
pub(super) struct Row<'s> {
    statement: &'s Statement,
}

impl Row<'_> {
    pub(super) fn integer(&self, column: c_int) -> i64 {
        // SAFETY: the statement stands on a row.
        unsafe { ffi::sqlite3_column_int64(self.statement.raw.as_ptr(), column) }
    }

    pub(super) fn real(&self, column: c_int) -> Option<f64> {
        let statement = self.statement.raw.as_ptr();
        // SAFETY: the statement stands on a row.
        unsafe {
            let null = ffi::sqlite3_column_type(statement, column) == ffi::SQLITE_NULL;
            (!null).then(|| ffi::sqlite3_column_double(statement, column))
        }
    }

    fn kind(&self, column: c_int) -> c_int {
        // SAFETY: the statement stands on a row.
        unsafe { ffi::sqlite3_column_type(self.statement.raw.as_ptr(), column) }
    }

    pub(super) fn is_text(&self, column: c_int) -> bool {
        self.kind(column) == ffi::SQLITE_TEXT
    }

    pub(super) fn optional(&self, column: c_int) -> Option<i64> {
        (self.kind(column) != ffi::SQLITE_NULL).then(|| self.integer(column))
    }

    /// A figure that is kept in thousandths.
    pub(super) fn thousandths(&self, column: c_int) -> Result<Option<u64>, Damaged> {
        self.figure(column, |stored| u64::try_from(stored).ok())
    }

    /// In thousandths, a figure that is INTEGER where it is whole, else REAL.
    pub(super) fn number(&self, column: c_int) -> Result<Option<u64>, Damaged> {
        match self.real(column) {
            Some(real) if self.kind(column) == ffi::SQLITE_FLOAT => {
                let thousandths = (real * 1000.0).round();
                if thousandths < 0.0 { Err(Damaged) } else { Ok(Some(thousandths as u64)) }
            }
            _ => self.figure(column, |whole| u64::try_from(whole).ok()?.checked_mul(1000)),
        }
    }

    /// In thousandths, a figure that is in its unit where it is whole, else in thousandths below
    /// zero.
    pub(super) fn whole_or_negative(&self, column: c_int) -> Result<Option<u64>, Damaged> {
        self.figure(column, |stored| match stored {
            fine if fine < 0 => Some(fine.unsigned_abs()),
            whole => whole.unsigned_abs().checked_mul(1000),
        })
    }

    fn figure(
        &self,
        column: c_int,
        thousandths: impl FnOnce(i64) -> Option<u64>,
    ) -> Result<Option<u64>, Damaged> {
        match self.kind(column) {
            ffi::SQLITE_NULL => Ok(None),
            ffi::SQLITE_INTEGER => thousandths(self.integer(column)).map(Some).ok_or(Damaged),
            _ => Err(Damaged),
        }
    }

    /// The bytes of a TEXT column, until the next step.
    pub(super) fn text(&self, column: c_int) -> &[u8] {
        let statement = self.statement.raw.as_ptr();
        // SAFETY: the statement stands on a row; the pointer is read before the length, as
        // SQLite asks for, and is valid until the next step, which needs `&mut Statement`.
        unsafe {
            let text = ffi::sqlite3_column_text(statement, column);
            let length = ffi::sqlite3_column_bytes(statement, column);
            match usize::try_from(length) {
                Ok(length) if !text.is_null() => std::slice::from_raw_parts(text, length),
                _ => &[],
            }
        }
    }
}
