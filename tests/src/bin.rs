//! Where the binaries under test are: beside the test executables of the same build.

use std::path::{Path, PathBuf};

/// The binary `name` of this build.
///
/// # Panics
///
/// If it was not built: `cargo test -p e2e` builds the tests alone.
pub fn bin(name: &str) -> PathBuf {
    let exe = std::env::current_exe().expect("the path of this test executable");
    find(&exe, name).unwrap_or_else(|message| panic!("{message}"))
}

/// Test executables are `target/<profile>/deps/<test>-<hash>`, binaries `target/<profile>/<name>`.
fn find(exe: &Path, name: &str) -> Result<PathBuf, String> {
    let folder = exe.parent().ok_or_else(|| format!("{} is in no folder", exe.display()))?;
    let profile = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let path = profile.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    if path.is_file() {
        return Ok(path);
    }
    let release = if profile.ends_with("release") { " --release" } else { "" };
    Err(format!(
        "{} is not there. The end-to-end suites run the real binaries: build them with `cargo build{release} \
         --workspace`, or run `cargo test{release} --workspace`, which does so first",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binaries_are_found_beside_the_tests_of_their_profile() {
        let target = tempfile::tempdir().expect("tempdir");
        let profile = target.path().join("release");
        std::fs::create_dir_all(profile.join("deps")).expect("made");
        let exe = profile.join("deps/suite-0123456789abcdef");
        let missing = find(&exe, "gateway").expect_err("missing");
        assert!(
            missing.contains("release/gateway") && missing.contains("cargo build --release --workspace"),
            "{missing}"
        );
        std::fs::write(profile.join("gateway"), "").expect("written");
        assert_eq!(find(&exe, "gateway").expect("found"), profile.join("gateway"));
        assert_eq!(find(&profile.join("example"), "gateway").expect("found"), profile.join("gateway"));
    }
}
