//! The machine, as far as it bears on the figures, and what its kernel says about processes.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

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

/// Lets this process, and those that it starts, open as many files as the system allows: each open stream takes one here
/// and two in what is measured.
pub(crate) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, opening thousands of streams fails and says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// What a process and those that it has started use.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// Processor time, in user and kernel mode; it counts in steps of 10 ms.
    pub(crate) cpu: Duration,
    /// Bytes of physical memory; a page that several processes share counts for each of them in equal parts, so that the
    /// sum over processes is what they take together.
    pub(crate) memory: u64,
    /// Most bytes of resident memory since the start, as the kernel keeps it for each process: shared pages count for each.
    pub(crate) peak: u64,
}

/// The usage of all of these and of their children.
pub(crate) fn usage(ids: &[u32]) -> Result<Usage, Failed> {
    let mut sum = Usage::default();
    for id in ids {
        let one = of_one(*id)?;
        let children = usage(&children(*id))?;
        sum.cpu += one.cpu + children.cpu;
        sum.memory += one.memory + children.memory;
        sum.peak += one.peak + children.peak;
    }
    Ok(sum)
}

fn of_one(id: u32) -> Result<Usage, Failed> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let smaps = std::fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default();
    let resident = kilobytes(&status, "VmRSS:").ok_or_else(|| format!("/proc/{id}/status has no VmRSS"))?;
    Ok(Usage {
        cpu: used(&stat).ok_or_else(|| format!("/proc/{id}/stat has another form: {stat}"))?,
        // Without it, as in some containers, shared pages count in full.
        memory: kilobytes(&smaps, "Pss:").unwrap_or(resident),
        peak: kilobytes(&status, "VmHWM:").unwrap_or(resident),
    })
}

fn children(id: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let of_task = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
    tasks.map(of_task).flat_map(|ids| ids.split(' ').filter_map(|id| id.parse().ok()).collect::<Vec<_>>()).collect()
}

/// The name, the second field, stands in brackets and may hold anything; the times are the 14th and the 15th field.
fn used(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// The value in bytes of a line `name  123 kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_times_models_and_sizes_are_read() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 100 0 0 0 150 25 0 0 20 0 1 0 100 0 0";
        assert_eq!(used(stat), Some(Duration::from_millis(1750)));
        assert_eq!(used("nonsense"), None);
        assert_eq!(model("processor\t: 0\nmodel name\t: Fast CPU @ 3 GHz\n"), "Fast CPU @ 3 GHz");
        assert_eq!(model(""), std::env::consts::ARCH);
        assert_eq!(kilobytes("VmPeak:\t 9 kB\nVmRSS:\t  12 kB\n", "VmRSS:"), Some(12 * 1024));
        assert_eq!(kilobytes("", "Pss:"), None);
    }

    #[test]
    fn a_process_is_counted_with_its_children() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("started");
        let own = usage(&[std::process::id()]).expect("this process");
        assert!(children(std::process::id()).contains(&child.id()) && own.memory > 0 && own.peak > 0);
        child.kill().expect("a child can be killed");
        child.wait().expect("ended");
    }
}
