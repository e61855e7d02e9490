//! What came in, out again: the export, the availability, backups, and the questions that
//! operators ask with `sqlite3`. The real program, a real file, real HTTP.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]
#![expect(clippy::needless_pass_by_value, reason = "JSON literals read better by value")]

#[expect(dead_code, unused_imports, reason = "it is made for all tests; these need a part of it")]
#[path = "api"]
mod api {
    pub(crate) mod support;
}

#[path = "export"]
mod export {
    mod availability;
    mod pages;
    mod whole;
}

pub(crate) use api::support;
