//! From the layers to a checked configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use crate::{
    check::{self, urls},
    key,
    layers::Layers,
    problem::{ConfigError, Problem, Source},
    show,
    types::Config,
};

/// What a configuration is loaded from. No `Debug`: the environment holds other programs' secrets too.
#[derive(Clone, Default)]
pub struct LoadOptions {
    /// The file that was named, with `--config` or `SWITCHBOARD_CONFIG`; it must exist.
    /// None: `switchboard.toml` in the data directory, if it is there.
    pub file: Option<PathBuf>,
    /// The data directory.
    pub data_dir: PathBuf,
    /// The environment. Variables that do not start with `SWITCHBOARD__` are passed over.
    pub env: Vec<(String, String)>,
    /// Flags: dotted keys (`gateway.listen`) and values, written as in the environment.
    pub overrides: Vec<(String, String)>,
}

/// A configuration that passed every check.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The effective configuration. URLs are in their canonical form, without a trailing slash.
    pub config: Config,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// 16 hexadecimal digits that two processes share exactly when they run the same effective configuration, wherever
    /// its values come from. Passwords in proxy URLs do not count, since digests are shown.
    pub digest: String,
    sources: BTreeMap<String, Source>,
}

impl Loaded {
    /// Where a key's value comes from; [`Source::Default`] for a key that nobody set. The key is dotted as in TOML:
    /// `models."openai-codex/gpt-5.5".name`.
    pub fn source_of(&self, key: &str) -> Source {
        let found = self.sources.get(key);
        let found = found.or_else(|| self.sources.get(&key::dotted(&key::parse(key)?)));
        found.cloned().unwrap_or(Source::Default)
    }
}

/// Read all layers, merge and check them.
///
/// # Errors
///
/// Everything that is wrong with any layer and with what they mean together.
pub fn load(options: &LoadOptions) -> Result<Loaded, ConfigError> {
    let file = options.file.clone().or_else(|| {
        let usual = options.data_dir.join(crate::FILE_NAME);
        // Whatever else it is, it is read, so that a file nobody may read is an error and not a silent default.
        usual.symlink_metadata().is_ok().then_some(usual)
    });

    let mut layers = Layers::built_in();
    if let Some(file) = &file
        && !layers.add_file(file)
    {
        // Without the file the rest would be judged by what it does not say.
        return Err(layers.into_error());
    }
    layers.add_environment(&options.env);
    layers.add_flags(&options.overrides);
    layers.require_keys();

    let (table, sources, mut problems) = layers.into_parts();
    let mut config = match deserialize(table) {
        Ok(config) => config,
        Err(message) => {
            problems.push(Problem { source: Source::Default, key: String::new(), value: None, message });
            return Err(ConfigError::new(problems));
        }
    };
    let reported: BTreeSet<String> = problems.iter().map(|problem| problem.key.clone()).collect();
    for finding in check::findings(&config) {
        let candidates = [Some(finding.problem), finding.counterpart].into_iter().flatten();
        let candidates: Vec<_> = candidates.map(|problem| located(problem, &sources)).collect();
        // What a rejected or missing value leaves behind is no second problem.
        if candidates.iter().any(|problem| reported.contains(&problem.key)) {
            continue;
        }
        let written = candidates.iter().find(|problem| problem.source != Source::Default);
        problems.extend(written.or(candidates.first()).cloned());
    }
    if !problems.is_empty() {
        return Err(ConfigError::new(problems));
    }
    // After the checks, so that an error shows a value as it was written.
    config.complete();
    let digest = show::digest(&config);
    Ok(Loaded { config, file, digest, sources })
}

/// Fails only if the schema and the types disagree, which a test rules out.
fn deserialize(table: toml::Table) -> Result<Config, String> {
    table.try_into().map_err(|error: toml::de::Error| error.message().to_owned())
}

fn located(problem: Problem, sources: &BTreeMap<String, Source>) -> Problem {
    let source = sources.get(&problem.key).cloned().unwrap_or(Source::Default);
    Problem { source, ..problem }
}

impl Config {
    /// Fill in what follows from other values, and write URLs the one way that the rest of the program compares.
    fn complete(&mut self) {
        urls::canonicalise(&mut self.auth.identity_url);
        for target in self.targets.values_mut() {
            urls::canonicalise(&mut target.base_url);
            target.backend_url.iter_mut().for_each(urls::canonicalise);
        }
        for (id, model) in &mut self.models {
            if model.name.is_empty() {
                model.name = id.split_once('/').map_or(id.as_str(), |(_, name)| name).to_owned();
            }
        }
    }
}
