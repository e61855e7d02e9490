//! The figures of a server in the text format of Prometheus, taken out as the text comes in.
//!
//! Invariant: whatever comes in, no more is kept of it than one line of [`MAX_LINE`] bytes.

use super::Figures;
use crate::collect::server::Series;
use crate::collect::text::{number, words};

/// A longer line is left out.
const MAX_LINE: usize = 16 << 10;
/// The most engines of one server that are told apart by [`Ranks`].
const MAX_ENGINES: usize = 1024;

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
    /// Of every engine with a number, the tensor rank that speaks for it.
    speakers: Vec<(u64, u64)>,
}

/// Which of SGLang's processes a line is from, and about which requests.
#[derive(Default)]
struct Ranks {
    engine: Option<u64>,
    tensor: Option<u64>,
    pipeline: Option<u64>,
    /// It is about the requests of one priority, which another line counts too.
    is_part: bool,
}

impl Exposition {
    pub(super) fn new(
        running: &'static Series,
        waiting: &'static Series,
        kv_cache: &'static Series,
    ) -> Self {
        let gather =
            |series, combine| Gathered { series, value: None, combine, speakers: Vec::new() };
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
        let mut pieces = piece.split(|&byte| byte == b'\n').peekable();
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
    fn value_of(&mut self, rest: &[u8]) -> Option<f64> {
        let (labels, rest) = match rest.strip_prefix(b"{") {
            Some(rest) => {
                let end = end_of_labels(rest)?;
                (&rest[..end], &rest[end + 1..])
            }
            None => (&rest[..0], rest),
        };
        let mut is_meant = self.series.label.is_none();
        let mut ranks = Ranks::default();
        for (name, value) in Labels(labels) {
            is_meant |= self.series.label.is_some_and(|label| value == label.as_bytes());
            ranks.take(name, value);
        }
        let value = std::str::from_utf8(words(rest).next()?).ok()?;
        let value: f64 = value.parse().ok()?;
        (is_meant && value.is_finite() && value >= 0.0 && self.is_speaker(&ranks)).then_some(value)
    }

    /// Whether this process speaks for its engine: the processes of one engine all say the same.
    /// The first of them that is heard does; which one that is depends on how they share the
    /// attention. Without a number there is one engine, whose first process speaks.
    fn is_speaker(&mut self, ranks: &Ranks) -> bool {
        let is_first = |rank: Option<u64>| rank.is_none_or(|rank| rank == 0);
        if ranks.is_part || !is_first(ranks.pipeline) {
            return false;
        }
        let Some((engine, tensor)) = ranks.engine.zip(ranks.tensor) else {
            return is_first(ranks.tensor);
        };
        match self.speakers.iter().find(|(known, _)| *known == engine) {
            Some((_, speaker)) => *speaker == tensor,
            None if self.speakers.len() < MAX_ENGINES => {
                self.speakers.push((engine, tensor));
                true
            }
            None => false,
        }
    }
}

impl Ranks {
    fn take(&mut self, label: &[u8], value: &[u8]) {
        match label {
            b"dp_rank" => self.engine = number(value),
            b"tp_rank" => self.tensor = number(value),
            b"pp_rank" => self.pipeline = number(value),
            b"priority" => self.is_part = !value.is_empty(),
            _ => {}
        }
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
    fn each_engine_counts_once_however_many_processes_report_it() {
        // With data-parallel attention the process that reports an engine has any tensor rank.
        let engines = b"x:running{dp_rank=\"0\",pp_rank=\"0\",tp_rank=\"0\"} 3\n\
                        x:running{dp_rank=\"0\",pp_rank=\"0\",tp_rank=\"1\"} 3\n\
                        x:running{dp_rank=\"1\",pp_rank=\"0\",tp_rank=\"3\"} 4\n\
                        x:running{dp_rank=\"1\",pp_rank=\"0\",tp_rank=\"2\"} 4\n\
                        x:running{dp_rank=\"1\",pp_rank=\"1\",tp_rank=\"3\"} 4\n";
        assert_eq!(read(&[engines]).0, Some(7.0));
        let one = b"x:running{pp_rank=\"0\",tp_rank=\"0\"} 3\n\
                    x:running{pp_rank=\"0\",tp_rank=\"1\"} 3\n\
                    x:running{pp_rank=\"1\",tp_rank=\"0\"} 3\n";
        assert_eq!(read(&[one]).0, Some(3.0));
    }

    #[test]
    fn the_requests_of_a_priority_are_counted_in_all_of_them() {
        let text = b"x:running{priority=\"\",tp_rank=\"0\"} 5\n\
                     x:running{priority=\"0\",tp_rank=\"0\"} 2\n\
                     x:running{priority=\"9\",tp_rank=\"0\"} 3\n";
        assert_eq!(read(&[text]).0, Some(5.0));
    }

    #[test]
    fn a_name_that_only_begins_so_is_another_one() {
        let text = b"x:running 1\nx:running_by_reason{reason=\"x\"} 9\nx:running:sum 9\n";
        assert_eq!(read(&[text]).0, Some(1.0));
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
