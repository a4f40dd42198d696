//! The machine, as far as it bears on the figures, and what its kernel says about processes.

use std::time::Duration;

use crate::Failed;

/// Kernel ticks of the processor times in `/proc`: `USER_HZ`, which is 100 on every Linux that runs this.
const TICKS_PER_SECOND: u64 = 100;

/// Processors, their model, the kernel, and how busy the machine is, in a line.
pub(crate) fn describe() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    format!(
        "{processors} × {}, Linux {}, load average {load} before the run",
        model(&read("/proc/cpuinfo")),
        kernel.trim()
    )
}

fn model(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    let name = line.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim());
    name.unwrap_or(std::env::consts::ARCH).to_owned()
}

/// Processor time that a process has used, in user and kernel mode; it counts in steps of 10 ms.
pub(crate) fn cpu(id: u32) -> Result<Duration, Failed> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    Ok(used(&stat).ok_or_else(|| format!("/proc/{id}/stat has another form: {stat}"))?)
}

/// The name, the second field, stands in brackets and may hold anything; the times are the 14th and the 15th field.
fn used(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_times_and_models_are_read() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 100 0 0 0 150 25 0 0 20 0 1 0 100 0 0";
        assert_eq!(used(stat), Some(Duration::from_millis(1750)));
        assert_eq!(used("nonsense"), None);
        assert_eq!(model("processor\t: 0\nmodel name\t: Fast CPU @ 3 GHz\n"), "Fast CPU @ 3 GHz");
        assert_eq!(model(""), std::env::consts::ARCH);
    }
}
