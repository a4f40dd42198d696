//! What is looked at only at the end: logs, and the files of the data directory.

use std::path::Path;

use super::{Canary, lock};

/// Files whose purpose is a secret.
const KEY_FILES: [&str; 3] = ["agent.key", "database.key", "seal.key"];

impl Canary {
    /// Learns the keys that are in files, and takes in logs and data.
    pub(super) fn gather(&self) {
        for folder in [self.root.join("data"), self.root.clone()] {
            for (name, kind) in KEY_FILES.iter().zip(["the first agent key", "the database key", "the seal key"]) {
                if let Ok(text) = std::fs::read_to_string(folder.join(name)) {
                    self.learn(kind, &text);
                    if let Some(raw) = from_hex(text.trim()) {
                        self.learn(kind, raw);
                    }
                }
            }
        }
        self.files(&self.root.join("logs"));
        self.files(&self.root.join("data"));
    }

    /// Every file below a folder but the key files. Whole: they are what outlives the process.
    fn files(&self, folder: &Path) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for entry in entries.filter_map(Result::ok) {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                self.files(&path);
            } else if kind.is_file()
                && !KEY_FILES.iter().any(|key| name.starts_with(key))
                && let Ok(bytes) = std::fs::read(&path)
            {
                let place = path.strip_prefix(&self.root).unwrap_or(&path).display().to_string();
                let text = super::Text::new(bytes.into());
                lock(&self.seen).texts.push((place, text));
            }
        }
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| (0..64).step_by(2).filter_map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect())
}
