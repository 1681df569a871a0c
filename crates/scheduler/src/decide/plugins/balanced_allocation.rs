//! Whether a pod brings the use of cpu and memory closer together.

use super::super::node::NodeInfo;
use super::super::pod::Needs;
use super::MAX_SCORE;

/// 75 when the balance stays as it is; 0 for pods that ask for nothing.
pub fn score(needs: &Needs, node: &NodeInfo) -> i64 {
    let (wanted, held, all) = (&needs.requests, &node.requested, &node.facts.allocatable);
    if wanted.milli_cpu == 0 && wanted.memory == 0 {
        return 0;
    }
    let of = |milli_cpu: i64, memory: i64| {
        let share =
            |amount: i64, capacity: i64| (capacity != 0).then(|| (amount as f64 / capacity as f64).min(1.0));
        let (cpu, memory) = (share(milli_cpu, all.milli_cpu), share(memory, all.memory));
        let deviation = cpu.zip(memory).map_or(0.0, |(cpu, memory)| ((cpu - memory) / 2.0).abs());
        ((1.0 - deviation) * MAX_SCORE as f64) as i64
    };
    let with = of(held.milli_cpu + wanted.milli_cpu, held.memory + wanted.memory);
    let without = of(held.milli_cpu, held.memory);
    MAX_SCORE / 2 + (MAX_SCORE / 2 + with - without) / 2
}
