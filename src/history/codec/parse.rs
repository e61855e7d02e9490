//! The arrays read again: numbers straight into thousandths.
//!
//! Only what [`encode`](super::encode) writes is read; a general reader of JSON, which knows floating
//! point, nesting of any depth and spaces, takes three times as long, and every reading of every
//! worker passes here when it is sealed.

use hive_contract::heartbeat::{Agent, Node};
use hive_contract::text::Text;
use serde::Deserialize;

use super::{Figures, GpuRow, NodeRow, SampleRow, WorkerGpuRow};

/// A row whose arrays are not what this program writes.
#[derive(Debug, thiserror::Error)]
#[error("a stored heartbeat cannot be read: byte {at} of an array is not as expected")]
pub(crate) struct DecodeError {
    at: usize,
}

/// Appends the samples of a row.
pub(in crate::history) fn parse_samples(
    bytes: &[u8],
    samples: &mut Vec<SampleRow>,
) -> Result<(), DecodeError> {
    let mut cursor = Cursor::new(bytes);
    cursor.rows(samples, sample)?;
    cursor.end()
}

/// The GPUs of a row.
pub(in crate::history) fn parse_gpus(bytes: &[u8]) -> Result<Vec<GpuRow>, DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let mut gpus = Vec::new();
    cursor.rows(&mut gpus, gpu)?;
    cursor.end()?;
    Ok(gpus)
}

/// The rest of a row.
pub(in crate::history) fn parse_node(bytes: &[u8]) -> Result<NodeRow, DecodeError> {
    let mut cursor = Cursor::new(bytes);
    cursor.open()?;
    let row = node(&mut cursor)?;
    cursor.close()?;
    cursor.end()?;
    Ok(row)
}

/// A worker's part of each GPU.
pub(in crate::history) fn parse_worker_gpus(
    bytes: &[u8],
) -> Result<Vec<WorkerGpuRow>, DecodeError> {
    let mut cursor = Cursor::new(bytes);
    let mut gpus = Vec::new();
    cursor.rows(&mut gpus, worker_gpu)?;
    cursor.end()?;
    Ok(gpus)
}

/// A place in one array and the arrays within it.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// The members of an array come one after the other; those at its end may be absent.
impl<'a> Cursor<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn error<T>(&self) -> Result<T, DecodeError> {
        Err(DecodeError { at: self.at })
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, byte: u8) -> Result<(), DecodeError> {
        if self.take(byte) { Ok(()) } else { self.error() }
    }

    fn open(&mut self) -> Result<(), DecodeError> {
        self.expect(b'[')
    }

    fn close(&mut self) -> Result<(), DecodeError> {
        self.expect(b']')
    }

    fn end(&self) -> Result<(), DecodeError> {
        if self.at == self.bytes.len() { Ok(()) } else { self.error() }
    }

    /// Goes to the next member: whether there is one, and it is not `null`.
    fn next(&mut self) -> bool {
        if matches!(self.peek(), None | Some(b']')) {
            return false;
        }
        // The first one has no comma before it.
        self.take(b',');
        let is_null = self.bytes[self.at..].starts_with(b"null");
        if is_null {
            self.at += 4;
        }
        !is_null
    }

    fn digits(&mut self) -> Result<u64, DecodeError> {
        let from = self.at;
        let mut number: u64 = 0;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            match number.checked_mul(10).and_then(|n| n.checked_add(u64::from(digit - b'0'))) {
                Some(next) => number = next,
                None => return self.error(),
            }
            self.at += 1;
        }
        if self.at == from { self.error() } else { Ok(number) }
    }

    /// The next number of a row; absent ones are 0.
    fn number(&mut self) -> Result<i64, DecodeError> {
        if !self.next() {
            return Ok(0);
        }
        match i64::try_from(self.digits()?) {
            Ok(number) => Ok(number),
            Err(_) => self.error(),
        }
    }

    /// The next figure. A decimal number becomes thousandths, of which `unit` makes a figure.
    fn figure<T>(&mut self, unit: impl Fn(u64) -> Option<T>) -> Result<Option<T>, DecodeError> {
        if !self.next() {
            return Ok(None);
        }
        let mut thousandths = match self.digits()?.checked_mul(1000) {
            Some(thousandths) => thousandths,
            None => return self.error(),
        };
        if self.take(b'.') {
            let mut place = 100;
            while let Some(digit @ b'0'..=b'9') = self.peek() {
                thousandths = thousandths.saturating_add(place * u64::from(digit - b'0'));
                place /= 10;
                self.at += 1;
            }
        }
        match unit(thousandths) {
            Some(figure) => Ok(Some(figure)),
            None => self.error(),
        }
    }

    /// The next member, with text in it: that is rare, and left to serde.
    fn json<T: Deserialize<'a>>(&mut self) -> Result<Option<T>, DecodeError> {
        if !self.next() {
            return Ok(None);
        }
        let mut json = serde_json::Deserializer::from_slice(&self.bytes[self.at..]).into_iter();
        match json.next() {
            Some(Ok(value)) => {
                self.at += json.byte_offset();
                Ok(Some(value))
            }
            _ => self.error(),
        }
    }

    /// The next member is an array of arrays: appends what `row` reads from each.
    fn rows<T>(
        &mut self,
        rows: &mut Vec<T>,
        row: impl Fn(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<(), DecodeError> {
        self.open()?;
        while self.peek() != Some(b']') {
            // The first one has no comma before it.
            self.take(b',');
            self.open()?;
            rows.push(row(self)?);
            self.close()?;
        }
        self.close()
    }
}

fn sample(cursor: &mut Cursor<'_>) -> Result<SampleRow, DecodeError> {
    use hive_contract::units::{
        Count, CpuPercent, Mebibytes, MebibytesPerSecond, Percent, Seconds,
    };
    let run = cursor.number()?;
    let figures = Figures {
        cpu_pct: cursor.figure(CpuPercent::from_thousandths)?,
        rss_mb: cursor.figure(Mebibytes::from_thousandths)?,
        io_r_mb_s: cursor.figure(MebibytesPerSecond::from_thousandths)?,
        io_w_mb_s: cursor.figure(MebibytesPerSecond::from_thousandths)?,
        uptime_s: cursor.figure(Seconds::from_thousandths)?,
        gpu_util_pct: cursor.figure(Percent::from_thousandths)?,
        vram_mb: cursor.figure(Mebibytes::from_thousandths)?,
        requests_running: cursor.figure(Count::from_thousandths)?,
        requests_waiting: cursor.figure(Count::from_thousandths)?,
        kv_cache_pct: cursor.figure(Percent::from_thousandths)?,
    };
    let mut gpus = Vec::new();
    if cursor.next() {
        cursor.rows(&mut gpus, worker_gpu)?;
    }
    Ok(SampleRow { run, figures, gpus })
}

fn worker_gpu(cursor: &mut Cursor<'_>) -> Result<WorkerGpuRow, DecodeError> {
    use hive_contract::units::{Mebibytes, Percent};
    Ok(WorkerGpuRow {
        gpu: cursor.number()?,
        util_pct: cursor.figure(Percent::from_thousandths)?,
        vram_mb: cursor.figure(Mebibytes::from_thousandths)?,
    })
}

fn gpu(cursor: &mut Cursor<'_>) -> Result<GpuRow, DecodeError> {
    use hive_contract::units::{Celsius, Mebibytes, Percent, Watts};
    Ok(GpuRow {
        gpu: cursor.number()?,
        util_pct: cursor.figure(Percent::from_thousandths)?,
        memory_used_mb: cursor.figure(Mebibytes::from_thousandths)?,
        temperature_c: cursor.figure(Celsius::from_thousandths)?,
        power_w: cursor.figure(Watts::from_thousandths)?,
        state: cursor.json::<Text>()?,
    })
}

fn node(cursor: &mut Cursor<'_>) -> Result<NodeRow, DecodeError> {
    use hive_contract::units::{Count, CpuPercent, Load, Mebibytes, Milliseconds, Seconds};
    let description = cursor.number()?;
    let node = Node {
        cpu_pct: cursor.figure(CpuPercent::from_thousandths)?,
        memory_used_mb: cursor.figure(Mebibytes::from_thousandths)?,
        load_1m: cursor.figure(Load::from_thousandths)?,
        uptime_s: cursor.figure(Seconds::from_thousandths)?,
        cpu_count: None,
        memory_total_mb: None,
    };
    let agent = Agent {
        version: None,
        cpu_pct: cursor.figure(CpuPercent::from_thousandths)?,
        rss_mb: cursor.figure(Mebibytes::from_thousandths)?,
        collect_ms: cursor.figure(Milliseconds::from_thousandths)?,
        spooled: cursor.figure(Count::from_thousandths)?,
        gpu_age_ms: cursor.figure(Milliseconds::from_thousandths)?,
        errors: cursor.json()?.unwrap_or_default(),
    };
    Ok(NodeRow { description, node, agent })
}

#[cfg(test)]
mod tests {
    use hive_contract::units::{CpuPercent, Mebibytes, Percent};

    use super::*;

    const SAMPLES: &[u8] =
        b"[[7,45.2,4096,0.001,0,3600,85,8192,2,0,41.25,[[3,85,8192],[4,null,1]]],[8],\
        [9,null,0.5,null,null,9007199254740991]]";

    #[test]
    fn numbers_become_thousandths_and_what_is_absent_stays_so() {
        let mut rows = Vec::new();
        parse_samples(SAMPLES, &mut rows).unwrap();
        assert_eq!(rows.iter().map(|row| row.run).collect::<Vec<_>>(), [7, 8, 9]);
        let figures = &rows[0].figures;
        assert_eq!(figures.cpu_pct.map(CpuPercent::thousandths), Some(45_200));
        assert_eq!(figures.rss_mb.map(Mebibytes::thousandths), Some(4_096_000));
        assert_eq!(figures.io_r_mb_s.map(|rate| rate.thousandths()), Some(1));
        assert_eq!(figures.kv_cache_pct.map(Percent::thousandths), Some(41_250));
        let gpus: Vec<_> =
            rows[0].gpus.iter().map(|g| (g.gpu, g.util_pct.map(Percent::thousandths))).collect();
        assert_eq!(gpus, [(3, Some(85_000)), (4, None)]);
        assert!(rows[1].figures.cpu_pct.is_none() && rows[1].gpus.is_empty());
        let figures = &rows[2].figures;
        assert_eq!(figures.rss_mb.map(Mebibytes::thousandths), Some(500));
        assert_eq!(figures.uptime_s.map(|s| s.thousandths()), Some(9_007_199_254_740_991_000));
    }

    #[test]
    fn text_is_read_as_json() {
        let gpus = parse_gpus(br#"[[1,null,null,null,310.5,"lost, \"so\""],[2]]"#).unwrap();
        assert_eq!(gpus[0].state.as_ref().map(Text::as_str), Some("lost, \"so\""));
        assert_eq!((gpus[1].gpu, gpus[1].state.is_none()), (2, true));
        let row = parse_node(br#"[5,1.5,null,null,null,null,null,null,null,null,["a]","b"]]"#);
        let row = row.unwrap();
        assert_eq!(row.description, 5);
        assert_eq!(row.agent.errors.iter().map(Text::as_str).collect::<Vec<_>>(), ["a]", "b"]);
    }

    #[test]
    fn what_is_damaged_is_an_error_and_not_another_number() {
        let parse = |bytes: &[u8]| parse_samples(bytes, &mut Vec::new()).map_err(|e| e.at);
        for end in 0..SAMPLES.len() {
            assert!(parse(&SAMPLES[..end]).is_err(), "the first {end} bytes");
        }
        assert_eq!(parse(b"[[7,101,1,1,1,1,101]]"), Err(19), "no share of a device");
        assert_eq!(parse(b"[[7,-1]]"), Err(4));
        assert_eq!(parse(b"[[7,1e3]]"), Err(5));
        assert_eq!(parse(b"[[7,99999999999999999999]]"), Err(23));
        assert_eq!(parse(b"[[7]]]"), Err(5));
        assert_eq!(parse(b"[null]"), Err(1));
        assert_eq!(parse(b"[]"), Ok(()));
    }
}
