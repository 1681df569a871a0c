//! How many seats each level has: nominally, and for the moment, while levels that do not
//! need theirs lend them.
//!
//! (After `conc_alloc.go` and `apf_controller.go` of apiserver's flow control, KEP-1040.)

use super::spec::{Level, Mode};

/// What a level's limit may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) nominal: usize,
    pub(crate) least: usize,
    pub(crate) most: usize,
}

/// What a level has wanted since the last look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Demand {
    pub(crate) exempt: bool,
    pub(crate) bounds: Bounds,
    /// Seats wanted at once at most.
    pub(crate) high: usize,
    /// The same over time: rises at once and falls slowly.
    pub(crate) smoothed: f64,
}

/// How slowly demand is forgotten.
const SMOOTHING: f64 = 0.977;
/// No level's target is less, so that all have a share of what is over.
const LEAST_TARGET: f64 = 0.001;

/// The bounds of levels that share `total` seats.
pub(crate) fn bounds(levels: &[Level], total: usize) -> Vec<Bounds> {
    let sum: u32 = levels.iter().map(|level| level.shares).sum();
    let of = |level: &Level| {
        let nominal = (total as f64 * f64::from(level.shares) / f64::from(sum.max(1))).ceil() as usize;
        let part = |percent: u32| (nominal as f64 * f64::from(percent) / 100.0).round() as usize;
        let borrowing = level.borrowing.map_or(total, part);
        let least = nominal.saturating_sub(part(level.lendable));
        Bounds { nominal, least, most: nominal + borrowing }
    };
    levels.iter().map(of).collect()
}

/// Seats that one request may take at most.
pub(crate) fn widest(mode: Mode, bounds: Bounds) -> usize {
    const CAP: usize = 100;
    match mode {
        Mode::Queue { hand, .. } => {
            let part = (bounds.nominal as f64 * 0.15).ceil() as usize;
            part.min(bounds.nominal / hand.max(1)).clamp(1, CAP)
        }
        _ => CAP,
    }
}

/// Demand after a period in which at most `high` seats were wanted at once.
pub(crate) fn smooth(before: f64, high: usize) -> f64 {
    (high as f64).max(SMOOTHING * before + (1.0 - SMOOTHING) * high as f64)
}

/// The limits for the moment. They add up to the nominal ones.
pub(crate) fn limits(demands: &[Demand]) -> Vec<usize> {
    let sum: usize = demands.iter().map(|demand| demand.bounds.nominal).sum();
    let wanted = |demand: &Demand| demand.bounds.least.max(demand.bounds.nominal.min(demand.high));
    let exempt = |demand: &Demand| demand.bounds.least.max(demand.high);
    let limited = || demands.iter().filter(|demand| !demand.exempt);
    let taken: usize = demands.iter().filter(|demand| demand.exempt).map(exempt).sum();
    let left = sum.saturating_sub(taken);
    let least: usize = limited().map(|demand| demand.bounds.least).sum();
    let least_wanted: usize = limited().map(wanted).sum();
    let fraction = (left.saturating_sub(least)) as f64 / (least_wanted.saturating_sub(least)).max(1) as f64;
    let fair = (left > least && left > least_wanted).then(|| fair_proportion(sum as f64, limited()));
    let limit = |demand: &Demand| match fair {
        _ if demand.exempt => exempt(demand),
        Some(fair) => alloc(demand, fair).round() as usize,
        None => {
            let over = (wanted(demand) - demand.bounds.least) as f64 * fraction;
            demand.bounds.least + over.round() as usize
        }
    };
    demands.iter().map(limit).collect()
}

/// What a level gets at a proportion of what all want.
fn alloc(demand: &Demand, proportion: f64) -> f64 {
    let least = demand.bounds.least.max(demand.bounds.nominal.min(demand.high)) as f64;
    let target = demand.smoothed.max(least).max(LEAST_TARGET);
    (target * proportion).clamp(least, (demand.bounds.most as f64).max(least))
}

/// The proportion at which all that is there is given out.
fn fair_proportion<'a>(sum: f64, demands: impl Iterator<Item = &'a Demand> + Clone) -> f64 {
    let (mut low, mut high) = (0.0, sum / LEAST_TARGET);
    // What is given out only rises with the proportion; so often halved, it is exact.
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        match demands.clone().map(|demand| alloc(demand, middle)).sum::<f64>() < sum {
            true => low = middle,
            false => high = middle,
        }
    }
    high
}
