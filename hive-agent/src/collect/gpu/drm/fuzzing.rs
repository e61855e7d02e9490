//! What must hold of the users of a GPU, whatever stands in a process's fdinfo. Only the fuzz
//! targets of `fuzz/` are built with this.

use std::time::Duration;

use super::fdinfo::{self, Clients};

/// Readings one after the other, between NULs: a share is a share, and a client counts once.
pub fn clients(texts: &[u8]) {
    let mut clients = Clients::default();
    for (second, text) in (0..).zip(texts.split(|&byte| byte == 0).take(8)) {
        let Some(info) = fdinfo::parse(text) else { continue };
        let at = Duration::from_secs(second);
        clients.begin();
        let share = clients.take(&info, at).expect("it is new in this reading");
        assert!(share.is_none_or(|share| (0.0..=1.0).contains(&share)), "{share:?}");
        assert_eq!(clients.take(&info, at), None);
        clients.end();
        let _ = info.is_in_use();
    }
}
