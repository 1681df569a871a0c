//! Whether there is room, and how much is left.

use std::borrow::Cow;

use super::super::node::{NodeFacts, NodeInfo};
use super::super::pod::Needs;
use super::super::resources::Resources;
use super::{MAX_SCORE, Plugin, Refusal};

/// Refuses nodes without room.
pub fn filter(needs: &Needs, node: &NodeInfo) -> Result<(), Refusal> {
    fits(needs, &node.facts, node.pods.len(), &node.requested)
}

/// Whether a pod would fit on the node if nobody else were there.
pub fn fits_alone(needs: &Needs, node: &NodeFacts) -> bool {
    fits(needs, node, 0, &Resources::default()).is_ok()
}

fn fits(needs: &Needs, node: &NodeFacts, pods: usize, held: &Resources) -> Result<(), Refusal> {
    let (mut reasons, mut unresolvable) = (Vec::new(), false);
    if pods + 1 > node.max_pods {
        reasons.push(Cow::Borrowed("Too many pods"));
    }
    let mut need = |reason: &dyn Fn() -> Cow<'static, str>, wanted: i64, held: i64, capacity: i64| {
        if wanted > 0 && wanted > capacity - held {
            reasons.push(reason());
            unresolvable |= wanted > capacity;
        }
    };
    let (wanted, all) = (&needs.requests, &node.allocatable);
    need(&|| "Insufficient cpu".into(), wanted.milli_cpu, held.milli_cpu, all.milli_cpu);
    need(&|| "Insufficient memory".into(), wanted.memory, held.memory, all.memory);
    need(&|| "Insufficient ephemeral-storage".into(), wanted.ephemeral, held.ephemeral, all.ephemeral);
    for (name, amount) in &wanted.others {
        let of = |all: &Resources| all.others.get(name).copied().unwrap_or(0);
        need(&|| format!("Insufficient {name}").into(), *amount, of(held), of(all));
    }
    if reasons.is_empty() {
        return Ok(());
    }
    Err(Refusal { plugin: Plugin::NodeResourcesFit, reasons, unresolvable })
}

/// Free share of cpu and memory once the pod is there.
pub fn least_allocated(needs: &Needs, node: &NodeInfo) -> i64 {
    let free = |held: i64, wanted: i64, capacity: i64| match held + wanted {
        _ if capacity == 0 => None,
        requested if requested > capacity => Some(0),
        requested => Some((capacity - requested) * MAX_SCORE / capacity),
    };
    let (held, wanted, all) = (&node.weight, &needs.wish, &node.facts.allocatable);
    let cpu = free(held.milli_cpu, wanted.milli_cpu, all.milli_cpu);
    let memory = free(held.memory, wanted.memory, all.memory);
    match (cpu, memory) {
        (Some(cpu), Some(memory)) => i64::midpoint(cpu, memory),
        (one, other) => one.or(other).unwrap_or(0),
    }
}
