//! Reading quantities.

use std::borrow::Cow;

use super::{Error, Format, Quantity};

/// Digits that upstream's fast path takes.
const FAST_DIGITS: i32 = 18;

/// A quantity, and whether upstream keeps its text as it was written.
pub(super) struct Parsed {
    pub quantity: Quantity,
    pub verbatim: bool,
}

/// The text that upstream stores for a quantity: canonical, but for some texts
/// that it takes for canonical and keeps (`1.500`).
pub fn canonical(text: &str) -> Result<Cow<'_, str>, Error> {
    let trimmed = text.trim();
    let parsed = parse(trimmed)?;
    Ok(if parsed.verbatim { Cow::Borrowed(trimmed) } else { Cow::Owned(parsed.quantity.to_string()) })
}

/// The pieces of a text.
struct Pieces<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

fn split(text: &str) -> Result<Pieces<'_>, Error> {
    if text.is_empty() {
        return Err(Error::Format);
    }
    let negative = text.starts_with('-');
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text).trim_start_matches('0');
    let (whole, rest) = digits(rest);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest),
        None => ("", rest),
    };
    let letters = rest.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let exponent = letters.strip_prefix(['-', '+']).unwrap_or(letters);
    if !exponent.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Error::Format);
    }
    Ok(Pieces { negative, whole: if whole.is_empty() { "0" } else { whole }, fraction, suffix: rest })
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// What a suffix multiplies by: a power of ten or of two.
enum Scale {
    Ten(i32),
    Two(u32),
}

fn interpret(suffix: &str) -> Result<(Scale, Format), Error> {
    let ten = |exponent| Ok((Scale::Ten(exponent), Format::DecimalSi));
    let two = |exponent| Ok((Scale::Two(exponent), Format::BinarySi));
    match suffix {
        "" => ten(0),
        "n" => ten(-9),
        "u" => ten(-6),
        "m" => ten(-3),
        "k" => ten(3),
        "M" => ten(6),
        "G" => ten(9),
        "T" => ten(12),
        "P" => ten(15),
        "E" => ten(18),
        "Ki" => two(10),
        "Mi" => two(20),
        "Gi" => two(30),
        "Ti" => two(40),
        "Pi" => two(50),
        "Ei" => two(60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E']).ok_or(Error::Suffix)?;
            let exponent: i64 = exponent.parse().map_err(|_| Error::Suffix)?;
            let exponent = exponent.clamp(-1000, 1000) as i32;
            Ok((Scale::Ten(exponent), Format::DecimalExponent))
        }
    }
}

pub(super) fn parse(text: &str) -> Result<Parsed, Error> {
    if text == "0" {
        return Ok(Parsed { quantity: Quantity::ZERO, verbatim: true });
    }
    let pieces = split(text)?;
    let (scale, format) = interpret(pieces.suffix)?;
    let verbatim = keeps_text(&pieces, &scale);
    let quantity = amount(&pieces, &scale, format)?;
    Ok(Parsed { quantity, verbatim })
}

/// Whether upstream's fast path takes the text for canonical and keeps it.
fn keeps_text(pieces: &Pieces<'_>, scale: &Scale) -> bool {
    let count = (pieces.whole.len() + pieces.fraction.len()) as i32;
    match *scale {
        Scale::Ten(exponent) => {
            let exponent = exponent - pieces.fraction.len() as i32;
            let last = if pieces.fraction.is_empty() { pieces.whole } else { pieces.fraction };
            // "000" may straddle the point.
            let zeros = last.len() - last.trim_end_matches('0').len();
            let zeros = if zeros == pieces.fraction.len() && zeros > 0 {
                zeros + pieces.whole.len() - pieces.whole.trim_end_matches('0').len()
            } else {
                zeros
            };
            count <= FAST_DIGITS
                && exponent >= -9
                && exponent % 3 == 0
                && zeros < 3
                && !pieces.whole.starts_with('0')
        }
        Scale::Two(exponent) => {
            let precision = 15 - pieces.whole.len() as i32 - (exponent * 3 / 10) as i32 - 1;
            pieces.fraction.is_empty()
                && precision >= 0
                && pieces.whole.parse::<i64>().is_ok_and(|value| value & 7 != 0)
        }
    }
}

fn amount(pieces: &Pieces<'_>, scale: &Scale, mut format: Format) -> Result<Quantity, Error> {
    let fraction = pieces.fraction.trim_end_matches('0');
    let mut mantissa: i128 = 0;
    for byte in pieces.whole.bytes().chain(fraction.bytes()) {
        let digit = i128::from(byte - b'0');
        mantissa = mantissa.checked_mul(10).and_then(|m| m.checked_add(digit)).ok_or(Error::Numeric)?;
    }
    let mut exponent = -i32::try_from(fraction.len()).map_err(|_| Error::Numeric)?;
    match *scale {
        Scale::Ten(more) => exponent += more,
        Scale::Two(power) => mantissa = mantissa.checked_mul(1 << power).ok_or(Error::Numeric)?,
    }
    if mantissa != 0 && exponent > 60 {
        return Err(Error::Numeric);
    }
    let mut quantity = Quantity { mantissa, exponent, format };
    if exponent < -9 {
        quantity = Quantity { mantissa: quantity.rescaled(-9).0, exponent: -9, format };
    }
    if format == Format::BinarySi {
        if quantity > Quantity::new(i64::MAX, format) {
            quantity = Quantity::new(i64::MAX, format);
        }
        if quantity < Quantity::new(1, format) && !quantity.is_zero() {
            format = Format::DecimalSi;
        }
    }
    let mantissa = if pieces.negative { -quantity.mantissa } else { quantity.mantissa };
    Ok(Quantity { mantissa, format, ..quantity })
}
