//! Figures with their unit in the type.
//!
//! Every figure is kept as a whole number of thousandths, so it is exact to 1/1000, takes
//! eight bytes also when it is optional, and reads the same on every way out: the feed, REST
//! and SQLite. Figures are finite, not negative and below 2^53 by construction; from 2^42 on,
//! where a double no longer tells thousandths apart, they are whole.

use std::num::NonZeroU64;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Figures must be below this: 2^53, the range in which every JSON reader is exact.
pub const LIMIT: u64 = 1 << 53;

/// From here on, in thousandths, figures are whole: 2^42.
const WHOLE_FROM: u64 = (1 << 42) * 1000;

/// A number that is not in the range of its unit.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{given} is not in {range}")]
pub struct OutOfRange {
    /// The number as it was given.
    pub given: String,
    /// The range of the unit.
    pub range: &'static str,
}

/// Thousandths plus one, so that an optional figure needs no extra space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Thousandths(NonZeroU64);

impl Thousandths {
    fn new(thousandths: u64) -> Option<Self> {
        let thousandths = match thousandths {
            fine if fine < WHOLE_FROM => fine,
            coarse => coarse.saturating_add(500).min(LIMIT * 1000 - 1) / 1000 * 1000,
        };
        NonZeroU64::new(thousandths.checked_add(1)?).map(Self)
    }

    fn get(self) -> u64 {
        self.0.get() - 1
    }

    /// In the unit itself.
    fn to_unit(self) -> f64 {
        match self.get() {
            fine if fine < WHOLE_FROM => fine as f64 / 1000.0,
            whole => (whole / 1000) as f64,
        }
    }
}

/// Writes thousandths as the shortest decimal number: `45.2`, `8192`.
fn push_decimal(out: &mut String, thousandths: u64) {
    let mut buffer = itoa::Buffer::new();
    out.push_str(buffer.format(thousandths / 1000));
    let mut fraction = thousandths % 1000;
    if fraction > 0 {
        out.push('.');
        let mut place = 100;
        while fraction > 0 {
            out.push(char::from(b'0' + (fraction / place) as u8));
            fraction %= place;
            place /= 10;
        }
    }
}

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident, max: $max:expr, range: $range:literal, wire: $wire:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Thousandths);

        impl $name {
            #[doc = concat!("Takes a number in ", $range, ", rounded to 1/1000.")]
            ///
            /// # Errors
            /// The number is not finite or not in the range.
            pub fn new(value: f64) -> Result<Self, OutOfRange> {
                let out_of_range = || OutOfRange { given: value.to_string(), range: $range };
                if !(value >= 0.0 && value <= $max as f64) || value >= LIMIT as f64 {
                    return Err(out_of_range());
                }
                if value.fract() == 0.0 {
                    return Self::from_integer(value as u64);
                }
                Thousandths::new((value * 1000.0).round() as u64).map(Self).ok_or_else(out_of_range)
            }

            #[doc = concat!("Takes a whole number in ", $range, ".")]
            ///
            /// # Errors
            /// The number is not in the range.
            pub fn from_integer(value: u64) -> Result<Self, OutOfRange> {
                let out_of_range = || OutOfRange { given: value.to_string(), range: $range };
                if value > $max || value >= LIMIT {
                    return Err(out_of_range());
                }
                Thousandths::new(value * 1000).map(Self).ok_or_else(out_of_range)
            }

            /// A measured number, forced into the range; `None` only if it is not a number.
            #[must_use]
            pub fn measured(value: f64) -> Option<Self> {
                let max = if $max >= LIMIT { (LIMIT - 1) as f64 } else { $max as f64 };
                if value.is_nan() { None } else { Self::new(value.clamp(0.0, max)).ok() }
            }

            /// From thousandths of the unit, as the store keeps them.
            #[must_use]
            pub fn from_thousandths(thousandths: u64) -> Option<Self> {
                if thousandths / 1000 >= LIMIT || thousandths.div_ceil(1000) > $max {
                    return None;
                }
                Thousandths::new(thousandths).map(Self)
            }

            /// In thousandths of the unit, as the store keeps them.
            #[must_use]
            pub fn thousandths(self) -> u64 {
                self.0.get()
            }

            /// The number in the unit itself.
            #[must_use]
            pub fn get(self) -> f64 {
                self.0.to_unit()
            }

            /// Whether the figure is exactly zero.
            #[must_use]
            pub fn is_zero(self) -> bool {
                self.0.get() == 0
            }

            /// Appends the shortest decimal form.
            pub fn push_decimal(self, out: &mut String) {
                push_decimal(out, self.0.get());
            }

            /// Appends the form on the wire, as JSON.
            pub fn push_json(self, out: &mut String) {
                unit!(@push $wire, self, out)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.get())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let mut text = String::new();
                self.push_decimal(&mut text);
                f.pad(&text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                unit!(@serialize $wire, self, serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct NumberVisitor;
                impl Visitor<'_> for NumberVisitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!("a number in ", $range))
                    }
                    fn visit_u64<E: Error>(self, value: u64) -> Result<$name, E> {
                        $name::from_integer(value).map_err(E::custom)
                    }
                    fn visit_i64<E: Error>(self, value: i64) -> Result<$name, E> {
                        let value = u64::try_from(value).map_err(|_| {
                            E::custom(OutOfRange { given: value.to_string(), range: $range })
                        })?;
                        self.visit_u64(value)
                    }
                    fn visit_f64<E: Error>(self, value: f64) -> Result<$name, E> {
                        unit!(@visit_f64 $wire, $name, value, self)
                    }
                }
                deserializer.deserialize_any(NumberVisitor)
            }
        }
    };
    // On the wire with a decimal point: `85.0`. Not every reader takes one off many digits exactly.
    (@serialize decimal, $self:ident, $serializer:ident) => {
        if $self.0.get() < WHOLE_FROM {
            $serializer.serialize_f64($self.get())
        } else {
            $serializer.serialize_u64($self.0.get() / 1000)
        }
    };
    // On the wire as a whole number wherever it is one: `8192`.
    (@serialize whole, $self:ident, $serializer:ident) => {
        if $self.0.get() % 1000 == 0 {
            $serializer.serialize_u64($self.0.get() / 1000)
        } else {
            $serializer.serialize_f64($self.get())
        }
    };
    (@serialize count, $self:ident, $serializer:ident) => {
        $serializer.serialize_u64($self.0.get() / 1000)
    };
    (@push decimal, $self:ident, $out:ident) => {{
        push_decimal($out, $self.0.get());
        if $self.0.get() % 1000 == 0 && $self.0.get() < WHOLE_FROM {
            $out.push_str(".0");
        }
    }};
    (@push count, $self:ident, $out:ident) => {
        push_decimal($out, $self.0.get() / 1000 * 1000)
    };
    (@push $wire:ident, $self:ident, $out:ident) => {
        push_decimal($out, $self.0.get())
    };
    (@visit_f64 count, $name:ident, $value:ident, $visitor:ident) => {
        if $value.fract() == 0.0 {
            $name::new($value).map_err(E::custom)
        } else {
            Err(E::invalid_type(Unexpected::Float($value), &"a whole number"))
        }
    };
    (@visit_f64 $wire:ident, $name:ident, $value:ident, $visitor:ident) => {
        $name::new($value).map_err(E::custom)
    };
}

unit!(
    /// A share of one device, 0 to 100.
    Percent, max: 100, range: "0..=100", wire: decimal
);
unit!(
    /// A share of processor time: 100 is one full core, a machine of 16 cores reaches 1600.
    CpuPercent, max: LIMIT, range: "0..2^53", wire: decimal
);
unit!(
    /// Memory in MiB (2^20 bytes).
    Mebibytes, max: LIMIT, range: "0..2^53", wire: whole
);
unit!(
    /// A transfer rate in MiB (2^20 bytes) per second.
    MebibytesPerSecond, max: LIMIT, range: "0..2^53", wire: decimal
);
unit!(
    /// A duration in seconds.
    Seconds, max: LIMIT, range: "0..2^53", wire: whole
);
unit!(
    /// A duration in milliseconds.
    Milliseconds, max: LIMIT, range: "0..2^53", wire: whole
);
unit!(
    /// A temperature in degrees Celsius.
    Celsius, max: LIMIT, range: "0..2^53", wire: whole
);
unit!(
    /// Power in watts.
    Watts, max: LIMIT, range: "0..2^53", wire: decimal
);
unit!(
    /// A load average: runnable tasks.
    Load, max: LIMIT, range: "0..2^53", wire: decimal
);
unit!(
    /// A number of things: requests, processors, process ids.
    Count, max: LIMIT, range: "0..2^53", wire: count
);

impl Mebibytes {
    /// From bytes, to the nearest 1/1000 MiB.
    #[must_use]
    pub fn from_bytes(bytes: u64) -> Self {
        // 2^64 bytes are 2^44 MiB, far inside the range.
        let thousandths = (u128::from(bytes) * 1000 + (1 << 19)) >> 20;
        Self::from_thousandths(thousandths as u64).expect("any number of bytes is in range")
    }

    /// From bytes, to the nearest whole MiB: how memory is reported.
    #[must_use]
    pub fn whole_from_bytes(bytes: u64) -> Self {
        Self::from_integer((bytes >> 20) + ((bytes >> 19) & 1))
            .expect("any number of bytes is in range")
    }
}

impl Count {
    /// The count itself.
    #[must_use]
    pub fn whole(self) -> u64 {
        self.thousandths() / 1000
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_optional_figure_takes_eight_bytes() {
        assert_eq!(size_of::<Option<Mebibytes>>(), 8);
    }

    #[test]
    fn bounds_are_named() {
        let error = Percent::new(120.5).unwrap_err();
        assert_eq!(error.to_string(), "120.5 is not in 0..=100");
        assert!(Percent::new(100.0).is_ok());
        assert!(Percent::new(100.000_1).is_err());
        assert!(CpuPercent::new(-0.1).is_err());
        assert!(CpuPercent::new(f64::NAN).is_err());
        assert!(CpuPercent::new(f64::INFINITY).is_err());
        assert!(Mebibytes::from_integer(LIMIT).is_err());
        assert!(Mebibytes::from_integer(LIMIT - 1).is_ok());
    }

    #[test]
    fn the_wire_form_follows_the_contract() {
        let json = |v: &dyn erased::Json| v.json();
        assert_eq!(json(&Percent::new(85.0).unwrap()), "85.0");
        assert_eq!(json(&Mebibytes::new(8192.0).unwrap()), "8192");
        assert_eq!(json(&Mebibytes::new(8192.5).unwrap()), "8192.5");
        assert_eq!(json(&CpuPercent::new(45.2).unwrap()), "45.2");
        assert_eq!(json(&Count::from_integer(2).unwrap()), "2");
    }

    mod erased {
        pub(super) trait Json {
            fn json(&self) -> String;
        }
        impl<T: serde::Serialize> Json for T {
            fn json(&self) -> String {
                serde_json::to_string(self).unwrap()
            }
        }
    }

    #[test]
    fn a_count_is_whole() {
        assert!(serde_json::from_str::<Count>("1.5").is_err());
        assert_eq!(serde_json::from_str::<Count>("2.0").unwrap().whole(), 2);
    }

    #[test]
    fn bytes_round_to_the_nearest() {
        assert_eq!(Mebibytes::whole_from_bytes(1_572_864).to_string(), "2");
        assert_eq!(Mebibytes::whole_from_bytes(1_572_863).to_string(), "1");
        assert_eq!(Mebibytes::from_bytes(1_572_864).to_string(), "1.5");
        let _ = Mebibytes::from_bytes(u64::MAX);
        let _ = Mebibytes::whole_from_bytes(u64::MAX);
    }

    proptest! {
        #[test]
        fn thousandths_survive_json(thousandths in prop_oneof![0..WHOLE_FROM, 0..LIMIT * 1000]) {
            let figure = CpuPercent::from_thousandths(thousandths).unwrap();
            prop_assert!(figure.thousandths() == thousandths || thousandths >= WHOLE_FROM);
            let json = serde_json::to_string(&figure).unwrap();
            prop_assert_eq!(serde_json::from_str::<CpuPercent>(&json).unwrap(), figure);
            prop_assert_eq!(figure.to_string().parse::<f64>().unwrap(), figure.get());
            let mut pushed = String::new();
            figure.push_json(&mut pushed);
            prop_assert_eq!(pushed, json);
        }

        #[test]
        fn whole_numbers_are_exact(value in 0..LIMIT) {
            let figure = Mebibytes::from_integer(value).unwrap();
            prop_assert_eq!(serde_json::to_string(&figure).unwrap(), value.to_string());
            let mut pushed = String::new();
            figure.push_json(&mut pushed);
            prop_assert_eq!(pushed, value.to_string());
        }

        #[test]
        fn any_number_is_taken_or_refused(value: f64) {
            match CpuPercent::new(value) {
                Ok(figure) => {
                    let exact = if figure.thousandths() < WHOLE_FROM { 0.000_5 } else { 1.0 };
                    prop_assert!((figure.get() - value).abs() <= exact + value * 1e-15);
                }
                Err(_) => prop_assert!(!(value >= 0.0 && value < LIMIT as f64)),
            }
        }
    }
}
