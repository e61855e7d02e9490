//! What stands in the empty buckets of an answer.

use super::request::{Fill, Series};

/// Fills the empty buckets.
pub(super) fn fill(how: Fill, times: &mut Vec<i64>, series: &mut [Series]) {
    match how {
        Fill::Null => {}
        Fill::Zero => {
            for value in series.iter_mut().flat_map(|series| &mut series.values) {
                value.get_or_insert(0.0);
            }
        }
        Fill::Previous => {
            for series in series {
                let mut previous = None;
                for value in &mut series.values {
                    previous = value.or(previous);
                    *value = previous;
                }
            }
        }
        Fill::None => {
            let used: Vec<bool> = (0..times.len())
                .map(|at| series.iter().any(|series| series.values[at].is_some()))
                .collect();
            keep(times, &used);
            for series in series {
                keep(&mut series.values, &used);
            }
        }
    }
}

fn keep<T>(list: &mut Vec<T>, used: &[bool]) {
    let mut used = used.iter();
    list.retain(|_| used.next().copied().unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::metric::METRICS;

    fn filled(how: Fill) -> (Vec<i64>, Vec<Vec<Option<f64>>>) {
        let series = |values: [Option<f64>; 4]| Series {
            metric: &METRICS[0],
            labels: Vec::new(),
            values: values.to_vec(),
        };
        let mut times = vec![0, 1, 2, 3];
        let mut series =
            [series([None, Some(1.0), None, None]), series([None, None, None, Some(2.0)])];
        fill(how, &mut times, &mut series);
        (times, series.map(|series| series.values).to_vec())
    }

    #[test]
    fn each_way_of_filling() {
        let (null, one, two, zero) = (None, Some(1.0), Some(2.0), Some(0.0));
        let all = vec![0, 1, 2, 3];
        assert_eq!(
            filled(Fill::Null),
            (all.clone(), vec![vec![null, one, null, null], vec![null, null, null, two]])
        );
        assert_eq!(
            filled(Fill::Zero),
            (all.clone(), vec![vec![zero, one, zero, zero], vec![zero, zero, zero, two]])
        );
        assert_eq!(
            filled(Fill::Previous),
            (all, vec![vec![null, one, one, one], vec![null, null, null, two]])
        );
        assert_eq!(filled(Fill::None), (vec![1, 3], vec![vec![one, null], vec![null, two]]));
    }
}
