//! Bytes of a pod's images that a node has already, counted less the fewer nodes have
//! them, so that not all pods of an image land on the one node that has it.

use super::super::node::NodeFacts;
use super::super::pod::Needs;
use super::super::snapshot::Snapshot;
use super::MAX_SCORE;

const MIB: i64 = 1 << 20;

/// The pod's images that are somewhere, and on how many nodes.
pub fn holders<'a>(snapshot: &Snapshot, needs: &'a Needs) -> Vec<(&'a str, i64)> {
    let known = |image: &'a str| Some((image, snapshot.image_holders(image)?));
    needs.images.iter().filter_map(|image| known(image)).collect()
}

/// The score of one node among `total`.
pub fn score(needs: &Needs, node: &NodeFacts, holders: &[(&str, i64)], total: usize) -> i64 {
    let share = |(image, nodes): &(&str, i64)| {
        let size = node.images.get(*image).copied().unwrap_or(0);
        (size as f64 * (*nodes as f64 / total as f64)) as i64
    };
    let (least, most) = (23 * MIB, 1000 * MIB * needs.containers.max(1) as i64);
    let sum: i64 = holders.iter().map(share).sum();
    MAX_SCORE * (sum.clamp(least, most) - least) / (most - least)
}
