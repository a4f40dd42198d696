//! What this process holds: tasks, streams, connections, descriptors. What callers leave behind shows here.

use std::sync::Arc;

use telemetry::metrics::{Sample, names};
use tokio::runtime::Handle;

use crate::admin::Gauges;
use crate::watch;

/// The gauges of this process, for the admin port.
pub(crate) fn gauges() -> Gauges {
    Arc::new(|| {
        Box::pin(async {
            let (streams, connections) = watch::open();
            let mut samples = vec![
                Sample::new(names::OPEN_STREAMS, streams as f64),
                Sample::new(names::OPEN_CONNECTIONS, connections as f64),
                Sample::new(names::TASKS, Handle::current().metrics().num_alive_tasks() as f64),
            ];
            // Not every system tells.
            samples.extend(descriptors().map(|open| Sample::new(names::OPEN_FDS, open as f64)));
            samples
        })
    })
}

fn descriptors() -> Option<usize> {
    // One of them is what reads the directory.
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}
