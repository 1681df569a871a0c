//! Requests and limits as the kernel counts them. Pure.

use std::collections::BTreeMap;

use carrack_runtime::Resources;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A quantity in thousandths, rounded up; `None` when it is none. Saturates.
pub fn milli(quantity: &Quantity) -> Option<i128> {
    let text = quantity.0.as_str();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')));
    let (number, suffix) = text.split_at(digits.unwrap_or(text.len()));
    let (times, over): (i128, i128) = match suffix {
        "" => (1000, 1),
        "n" => (1, 1_000_000),
        "u" => (1, 1000),
        "m" => (1, 1),
        "k" => (1_000_000, 1),
        "M" => (1_000_000_000, 1),
        "G" => (1_000_000_000_000, 1),
        "T" => (1_000_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000_000, 1),
        "Ki" => (1000 << 10, 1),
        "Mi" => (1000 << 20, 1),
        "Gi" => (1000 << 30, 1),
        "Ti" => (1000 << 40, 1),
        "Pi" => (1000 << 50, 1),
        "Ei" => (1000 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let ten = 10i128.checked_pow(power.unsigned_abs().min(24))?;
            if power >= 0 { (1000 * ten, 1) } else { (1000, ten) }
        }
    };
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction = &fraction[..fraction.len().min(9)];
    let scale = 10i128.pow(u32::try_from(fraction.len()).ok()?);
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let product = digits.checked_mul(times)?;
    let divisor = scale.checked_mul(over)?;
    let value = product / divisor + i128::from(product % divisor != 0);
    Some(if negative { -value } else { value })
}

/// Whole units, rounded up; negative and absurd ones are clamped.
pub fn units(quantity: &Quantity) -> Option<u64> {
    let milli = milli(quantity)?;
    let up = milli / 1000 + i128::from(milli % 1000 > 0);
    Some(u64::try_from(up.max(0)).unwrap_or(u64::MAX))
}

fn get<'a>(list: Option<&'a BTreeMap<String, Quantity>>, name: &str) -> Option<&'a Quantity> {
    list?.get(name)
}

/// Limits of one container.
pub fn of_container(pod: &Pod, container: &Container, node_memory: u64) -> Resources {
    let resources = container.resources.as_ref();
    let requests = resources.and_then(|r| r.requests.as_ref());
    let limits = resources.and_then(|r| r.limits.as_ref());
    let cpu_limit = get(limits, "cpu").and_then(milli);
    let cpu = get(requests, "cpu").and_then(milli).or(cpu_limit).unwrap_or(0);
    let memory_limit = get(limits, "memory").and_then(units).filter(|bytes| *bytes > 0);
    let mut made = from_milli(cpu, cpu_limit, memory_limit);
    made.oom_score_adj = Some(oom_score_adj(pod, container, node_memory));
    made
}

fn from_milli(cpu: i128, cpu_limit: Option<i128>, memory_limit: Option<u64>) -> Resources {
    let period = 100_000;
    let quota = cpu_limit
        .filter(|milli| *milli > 0)
        .map(|milli| i64::try_from(milli * i128::from(period) / 1000).unwrap_or(i64::MAX).max(1000));
    Resources {
        cpu_shares: Some(u64::try_from(cpu * 1024 / 1000).unwrap_or(0).clamp(2, 262_144)),
        cpu_quota: quota,
        cpu_period: quota.map(|_| period as u64),
        memory_limit,
        ..Resources::default()
    }
}

/// Limits of the pod: sums of its containers (the largest init container where that
/// is more); a limit only when every container has one.
pub fn of_pod(pod: &Pod) -> Resources {
    let Some(spec) = &pod.spec else { return Resources::default() };
    let amount = |container: &Container, name: &str, limit: bool| -> Option<i128> {
        let resources = container.resources.as_ref()?;
        let limits = get(resources.limits.as_ref(), name).and_then(milli);
        let requests = get(resources.requests.as_ref(), name).and_then(milli);
        if limit { limits } else { requests.or(limits) }
    };
    let total = |name: &str, limit: bool| -> (i128, bool) {
        let (mut sum, mut peak, mut every) = (0, 0, true);
        for container in &spec.containers {
            let one = amount(container, name, limit);
            every &= one.is_some_and(|milli| milli > 0);
            sum += one.unwrap_or(0);
        }
        for init in spec.init_containers.iter().flatten() {
            let one = amount(init, name, limit);
            every &= one.is_some_and(|milli| milli > 0);
            if crate::decide::is_restartable_init(init) {
                sum += one.unwrap_or(0);
            } else {
                peak = peak.max(one.unwrap_or(0));
            }
        }
        (sum.max(peak), every)
    };
    let (cpu, _) = total("cpu", false);
    let cpu_limit = Some(total("cpu", true)).filter(|(_, every)| *every).map(|(milli, _)| milli);
    let memory = Some(total("memory", true)).filter(|(_, every)| *every).map(|(milli, _)| milli / 1000);
    from_milli(cpu, cpu_limit, memory.and_then(|bytes| u64::try_from(bytes).ok()))
}

/// kubelet's `GetContainerOOMScoreAdjust`.
fn oom_score_adj(pod: &Pod, container: &Container, node_memory: u64) -> i32 {
    let qos = pod.status.as_ref().and_then(|s| s.qos_class.as_deref());
    let critical = pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0) >= 2_000_000_000;
    match qos {
        _ if critical => -997,
        Some("Guaranteed") => -997,
        Some("BestEffort") => 1000,
        _ => {
            let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
            let request = get(requests, "memory").and_then(units).unwrap_or(0);
            let share = 1000 * u128::from(request) / u128::from(node_memory.max(1));
            (1000 - i32::try_from(share).unwrap_or(1000)).clamp(3, 999)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        let cases = [
            ("100m", Some(100)),
            ("1", Some(1000)),
            ("0.5", Some(500)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("128Mi", Some(134_217_728_000)),
            ("1e3", Some(1_000_000)),
            ("1e-3", Some(1)),
            ("1u", Some(1)),
            ("2k", Some(2_000_000)),
            ("", None),
            ("x", None),
            ("1Q", None),
        ];
        for (text, expect) in cases {
            assert_eq!(milli(&Quantity(text.into())), expect, "{text}");
        }
    }

    #[test]
    fn kernel_units() {
        let container: Container = serde_json::from_value(serde_json::json!({"name": "c", "resources": {
            "requests": {"cpu": "250m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "128Mi"}}}))
        .expect("a container");
        let made = of_container(&Pod::default(), &container, 1 << 30);
        assert_eq!(
            (made.cpu_shares, made.cpu_quota, made.cpu_period),
            (Some(256), Some(50_000), Some(100_000))
        );
        assert_eq!((made.memory_limit, made.oom_score_adj), (Some(134_217_728), Some(938)));
    }
}
