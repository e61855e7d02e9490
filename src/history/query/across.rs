//! The values of a group's series in one bucket, becoming one.

use super::cells::Value;
use super::measure::Combine;
use super::request::Across;

/// The values of one group in one bucket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    count: u32,
    positive: u32,
    whole: u128,
    part: f64,
    min: f64,
    max: f64,
}

impl Group {
    pub(super) const EMPTY: Self = Self {
        count: 0,
        positive: 0,
        whole: 0,
        part: 0.0,
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
    };

    /// Adds the value of a series. Whole values have `scale` parts in the unit.
    pub(super) fn add(&mut self, value: Value, scale: f64) {
        let figure = match value {
            Value::Whole(whole) => {
                self.whole += whole;
                whole as f64 / scale
            }
            Value::Part(part) => {
                self.part += part;
                part
            }
        };
        self.count += 1;
        self.positive += u32::from(figure > 0.0);
        self.min = self.min.min(figure);
        self.max = self.max.max(figure);
    }

    /// What they come to; none where no series has a value.
    pub(super) fn value(&self, combine: Combine, scale: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let count = f64::from(self.count);
        Some(match combine {
            Combine::Positive => self.positive.into(),
            Combine::Across(Across::Count) => count,
            Combine::Across(Across::Min) => self.min,
            Combine::Across(Across::Max) => self.max,
            Combine::Across(Across::Sum) => self.whole as f64 / scale + self.part,
            Combine::Across(Across::Avg) => self.whole as f64 / (scale * count) + self.part / count,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(across: Across, values: &[Value]) -> Option<f64> {
        let mut group = Group::EMPTY;
        values.iter().for_each(|&value| group.add(value, 1000.0));
        group.value(Combine::Across(across), 1000.0)
    }

    #[test]
    fn series_combine() {
        let whole = [Value::Whole(1500), Value::Whole(0), Value::Whole(3000)];
        assert_eq!(value(Across::Avg, &whole), Some(1.5));
        assert_eq!(value(Across::Sum, &whole), Some(4.5));
        assert_eq!(value(Across::Min, &whole), Some(0.0));
        assert_eq!(value(Across::Max, &whole), Some(3.0));
        assert_eq!(value(Across::Count, &whole), Some(3.0));
        let parts = [Value::Part(0.5), Value::Part(1.0)];
        assert_eq!(value(Across::Avg, &parts), Some(0.75));
        assert_eq!(value(Across::Sum, &parts), Some(1.5));
    }

    #[test]
    fn a_group_without_values_has_none() {
        assert!(Across::ALL.iter().all(|&across| value(across, &[]).is_none()));
    }

    #[test]
    fn only_what_is_above_zero_is_busy() {
        let mut group = Group::EMPTY;
        group.add(Value::Whole(0), 1000.0);
        assert_eq!(group.value(Combine::Positive, 1000.0), Some(0.0));
        group.add(Value::Whole(1), 1000.0);
        assert_eq!(group.value(Combine::Positive, 1000.0), Some(1.0));
    }
}
