//! The figures of a server in the text format of Prometheus, taken out as the text comes in.
//!
//! Invariant: whatever comes in, no more is kept of it than one line of [`MAX_LINE`] bytes.

use super::Figures;
use crate::collect::server::Series;
use crate::collect::text::{lines, words};

/// A longer line is left out.
const MAX_LINE: usize = 16 << 10;
/// Labels of which only the first process counts: with several of them, all report the same.
const REPLICAS: [&str; 2] = ["tp_rank", "pp_rank"];

/// Gathers three figures out of the lines of one answer.
pub(super) struct Exposition {
    running: Gathered,
    waiting: Gathered,
    kv_cache: Gathered,
    line: Vec<u8>,
    is_too_long: bool,
}

/// One figure, over all engines of the server.
struct Gathered {
    series: &'static Series,
    value: Option<f64>,
    combine: fn(f64, f64) -> f64,
}

impl Exposition {
    pub(super) fn new(
        running: &'static Series,
        waiting: &'static Series,
        kv_cache: &'static Series,
    ) -> Self {
        let gather = |series, combine| Gathered { series, value: None, combine };
        Self {
            running: gather(running, |sum, value| sum + value),
            waiting: gather(waiting, |sum, value| sum + value),
            kv_cache: gather(kv_cache, f64::max),
            line: Vec::new(),
            is_too_long: false,
        }
    }

    /// Takes the next piece of the answer.
    pub(super) fn feed(&mut self, piece: &[u8]) {
        let mut pieces = lines(piece).peekable();
        while let Some(piece) = pieces.next() {
            let is_whole = pieces.peek().is_some();
            if self.line.is_empty() && is_whole && !self.is_too_long {
                self.take(piece);
                continue;
            }
            if self.line.len() + piece.len() > MAX_LINE {
                self.line.clear();
                self.is_too_long = true;
            }
            if !self.is_too_long {
                self.line.extend_from_slice(piece);
            }
            if is_whole {
                self.end_line();
            }
        }
    }

    /// What the whole answer said. The share of the cache comes as a fraction of 1.
    pub(super) fn end(mut self) -> Figures {
        self.end_line();
        Figures {
            running: self.running.value,
            waiting: self.waiting.value,
            kv_cache_pct: self.kv_cache.value.map(|share| share * 100.0),
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if !std::mem::take(&mut self.is_too_long) {
            self.take(&line);
        }
        self.line = line;
        self.line.clear();
    }

    fn take(&mut self, line: &[u8]) {
        for figure in [&mut self.running, &mut self.waiting, &mut self.kv_cache] {
            figure.take(line);
        }
    }
}

impl Gathered {
    fn take(&mut self, line: &[u8]) {
        let rest = self.series.names.iter().find_map(|name| {
            let rest = line.strip_prefix(name.as_bytes())?;
            rest.first().is_some_and(|byte| b"{ \t".contains(byte)).then_some(rest)
        });
        let Some(value) = rest.and_then(|rest| self.value_of(rest)) else { return };
        self.value = Some(self.value.map_or(value, |so_far| (self.combine)(so_far, value)));
    }

    /// The value of `{name="…",…} 1.5 1395066363000`, if its labels are meant.
    fn value_of(&self, rest: &[u8]) -> Option<f64> {
        let (labels, rest) = match rest.strip_prefix(b"{") {
            Some(rest) => {
                let end = end_of_labels(rest)?;
                (&rest[..end], &rest[end + 1..])
            }
            None => (&rest[..0], rest),
        };
        let mut is_meant = self.series.label.is_none();
        for (name, value) in Labels(labels) {
            is_meant |= self.series.label.is_some_and(|label| value == label.as_bytes());
            let is_replica = REPLICAS.iter().any(|replica| name == replica.as_bytes());
            if is_replica && value != b"0" {
                return None;
            }
        }
        let value = std::str::from_utf8(words(rest).next()?).ok()?;
        let value: f64 = value.parse().ok()?;
        (is_meant && value.is_finite() && value >= 0.0).then_some(value)
    }
}

/// Where the labels end: at the first bracket outside of quotes.
fn end_of_labels(labels: &[u8]) -> Option<usize> {
    let mut is_quoted = false;
    let mut is_escaped = false;
    labels.iter().position(|&byte| {
        let is_end = byte == b'}' && !is_quoted;
        is_quoted ^= byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && is_quoted && !is_escaped;
        is_end
    })
}

/// Names and values, the values as they are written.
struct Labels<'a>(&'a [u8]);

impl<'a> Iterator for Labels<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let equals = self.0.iter().position(|&byte| byte == b'=')?;
        let name = self.0[..equals].trim_ascii();
        let value = self.0[equals + 1..].strip_prefix(b"\"")?;
        let mut is_escaped = false;
        let end = value.iter().position(|&byte| {
            let is_end = byte == b'"' && !is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
            is_end
        })?;
        let rest = &value[end + 1..];
        self.0 = rest.strip_prefix(b",").unwrap_or(rest);
        Some((name, &value[..end]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    static RUNNING: Series = Series { names: &["x:running"], label: None };
    static WAITING: Series = Series { names: &["x:requests"], label: Some("waiting") };
    static KV_CACHE: Series = Series { names: &["x:kv_new", "x:kv"], label: None };

    fn read(pieces: &[&[u8]]) -> (Option<f64>, Option<f64>, Option<f64>) {
        let mut exposition = Exposition::new(&RUNNING, &WAITING, &KV_CACHE);
        pieces.iter().for_each(|piece| exposition.feed(piece));
        let Figures { running, waiting, kv_cache_pct } = exposition.end();
        (running, waiting, kv_cache_pct)
    }

    const TEXT: &str = concat!(
        "# HELP x:running Requests\n# TYPE x:running gauge\n",
        "x:running{engine=\"0\",model_name=\"a } b \\\" 9\"} 2.0\n",
        "x:running{engine=\"1\"} 1 1395066363000\n",
        "x:running{engine=\"2\",tp_rank=\"1\"} 100\n",
        "x:running_total 50\nx:running NaN\nx:running -1\nx:running +Inf\n",
        "x:requests{type=\"scheduled\"} 9\n",
        "x:requests{a=\"1\", type=\"waiting\"} 4\n",
        "x:kv{engine=\"0\"} 0.25\nx:kv{engine=\"1\"} 0.5\n",
        "torn{a=\"} 7"
    );

    #[test]
    fn figures_are_gathered_over_engines() {
        let expected = (Some(3.0), Some(4.0), Some(50.0));
        assert_eq!(read(&[TEXT.as_bytes()]), expected);
        assert_eq!(read(&[b""]), (None, None, None));
        assert_eq!(read(&[b"x:running 7"]).0, Some(7.0));
    }

    #[test]
    fn a_long_line_is_left_out() {
        let long = vec![b'9'; MAX_LINE];
        let pieces: [&[u8]; 5] = [b"x:running 1\nx:running ", &long, &long, b"\nx:ru", b"nning 2"];
        assert_eq!(read(&pieces).0, Some(3.0));
    }

    proptest! {
        #[test]
        fn pieces_may_be_cut_anywhere(cuts in prop::collection::vec(0..TEXT.len(), 0..20)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&TEXT.as_bytes()[from..cut]);
                from = cut;
            }
            pieces.push(&TEXT.as_bytes()[from..]);
            prop_assert_eq!(read(&pieces), (Some(3.0), Some(4.0), Some(50.0)));
        }

        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>, rest in "[{}\"\\\\=,a ]{0,20}") {
            read(&[&bytes]);
            read(&[format!("x:running{rest} 1\nx:requests{{{rest}}} 2\n").as_bytes()]);
        }
    }
}
