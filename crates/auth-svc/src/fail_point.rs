//! Places at which a test lets the process die as by a power cut. Builds without debug assertions have none of it.

/// Names the place at which this process kills itself.
#[cfg(debug_assertions)]
const VARIABLE: &str = "SWITCHBOARD_FAIL_POINT";

/// Ends the process with SIGKILL if the environment names this place.
#[cfg(debug_assertions)]
pub(crate) fn fail_point(place: &str) {
    static CHOSEN: std::sync::LazyLock<Option<String>> = std::sync::LazyLock::new(|| std::env::var(VARIABLE).ok());

    if CHOSEN.as_deref() == Some(place) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // The signal may take a moment, in which nothing more must be done.
        loop {
            std::thread::park();
        }
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
pub(crate) fn fail_point(_place: &str) {}
