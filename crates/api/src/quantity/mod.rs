//! `resource.Quantity`: exact decimal amounts with a suffix, read, compared, added
//! and written as apimachinery does, rounding rules included.
//!
//! Mantissas of up to 38 digits and magnitudes up to 10^60 are exact; larger ones
//! are refused, and sums saturate.

mod parse;
mod text;

pub use parse::canonical;

use std::cmp::Ordering;

/// How an amount likes to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `12M`.
    #[default]
    DecimalSi,
    /// `12Mi`.
    BinarySi,
    /// `12e6`.
    DecimalExponent,
}

/// A text that is no quantity; displays as upstream words it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not of the form number and suffix.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The number cannot be represented.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// The suffix is none.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// An amount: `mantissa × 10^exponent`, never finer than 10^-9.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quantity {
    mantissa: i128,
    exponent: i32,
    format: Format,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { mantissa: 0, exponent: 0, format: Format::DecimalSi };

    /// A whole amount.
    pub fn new(value: i64, format: Format) -> Self {
        Self { mantissa: value.into(), exponent: 0, format }
    }

    /// Thousandths.
    pub fn from_milli(value: i64, format: Format) -> Self {
        Self { mantissa: value.into(), exponent: -3, format }
    }

    /// Reads `100m`, `1.5Gi`, `1e3`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        parse::parse(text).map(|parsed| parsed.quantity)
    }

    /// How it is written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether it is zero.
    pub fn is_zero(&self) -> bool {
        self.mantissa == 0
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        self.mantissa.signum() as i32
    }

    /// The amount in units, rounded away from zero; saturates.
    pub fn value(&self) -> i64 {
        self.scaled(0)
    }

    /// The amount in thousandths, rounded away from zero; saturates.
    pub fn milli_value(&self) -> i64 {
        self.scaled(-3)
    }

    /// The amount in units of 10^`exponent`, rounded away from zero; saturates.
    pub fn scaled(&self, exponent: i32) -> i64 {
        let scaled = self.rescaled(exponent).0;
        scaled.clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }

    /// The sum. Zero takes on the other's format.
    pub fn plus(self, other: Self) -> Self {
        self.combine(other, i128::saturating_add)
    }

    /// The difference. Zero takes on the other's format.
    pub fn minus(self, other: Self) -> Self {
        self.combine(other, i128::saturating_sub)
    }

    /// The product with an integer.
    pub fn times(self, factor: i64) -> Self {
        Self { mantissa: self.mantissa.saturating_mul(factor.into()), ..self }
    }

    fn combine(self, other: Self, operation: fn(i128, i128) -> i128) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        let exponent = self.common_exponent(&other);
        let mantissa = operation(self.rescaled(exponent).0, other.rescaled(exponent).0);
        Self { mantissa, exponent, format }
    }

    fn common_exponent(&self, other: &Self) -> i32 {
        match (self.is_zero(), other.is_zero()) {
            (true, _) => other.exponent,
            (_, true) => self.exponent,
            _ => self.exponent.min(other.exponent),
        }
    }

    /// The mantissa at another exponent, rounded away from zero, and whether that
    /// was exact; saturates.
    fn rescaled(&self, exponent: i32) -> (i128, bool) {
        if self.mantissa == 0 {
            return (0, true);
        }
        let steps = (i64::from(self.exponent) - i64::from(exponent)).clamp(-200, 200);
        let power = 10i128.checked_pow(steps.unsigned_abs() as u32);
        if steps >= 0 {
            let scaled = power.and_then(|p| self.mantissa.checked_mul(p));
            let limit = if self.mantissa < 0 { i128::MIN } else { i128::MAX };
            return (scaled.unwrap_or(limit), scaled.is_some());
        }
        let Some(power) = power else { return (self.mantissa.signum(), false) };
        let (whole, rest) = (self.mantissa / power, self.mantissa % power);
        (whole + rest.signum(), rest == 0)
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_sign = self.sign().cmp(&other.sign());
        if by_sign != Ordering::Equal || self.is_zero() {
            return by_sign;
        }
        let exponent = self.common_exponent(other);
        let ((left, left_exact), (right, right_exact)) = (self.rescaled(exponent), other.rescaled(exponent));
        match (left_exact, right_exact) {
            // Both cannot overflow: one of them is at the common exponent already.
            (false, true) => {
                if self.sign() > 0 {
                    Ordering::Greater
                } else {
                    Ordering::Less
                }
            }
            (true, false) => {
                if self.sign() > 0 {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
            _ => left.cmp(&right),
        }
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::plus)
    }
}

#[cfg(test)]
mod tests;
