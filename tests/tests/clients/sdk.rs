//! OpenAI's SDKs, through the scripts beside this file: one for each thing that is tried, in Python and in JavaScript, which
//! do the same and print the same JSON object.

use e2e::{Home, Output};
use serde_json::Value;

use crate::{Place, tools};

/// One of the SDKs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sdk {
    Python,
    Node,
}

impl Sdk {
    /// The release that `.ci/tools` installs.
    fn version(self) -> &'static str {
        match self {
            Self::Python => "3.54.0",
            Self::Node => "7.57.0",
        }
    }

    /// Runs a script with a base URL and a key, and nothing else that the SDK would need to be told.
    pub(crate) async fn run(
        self,
        home: &Home,
        script: &str,
        (base_url, key): (&str, &str),
        arguments: &[&str],
    ) -> Output {
        let folder = format!("{}/tests/clients", env!("CARGO_MANIFEST_DIR"));
        let mut command = match self {
            Self::Python => {
                let mut command = tools::command(home, &tools::program("python3"));
                // What Python would keep of `common.py` has no place in the sources.
                command.env("PYTHONDONTWRITEBYTECODE", "1").arg(format!("{folder}/{script}.py"));
                command
            }
            Self::Node => {
                // Node looks for packages beside the script, so the script is put beside them.
                let copied = |name: &str| {
                    let text = std::fs::read_to_string(format!("{folder}/{name}.mjs")).expect("a script");
                    home.write(&format!("node/{name}.mjs"), &text)
                };
                let _ = copied("common");
                let copy = copied(script);
                let beside = home.path("node/node_modules");
                if let Err(error) = std::os::unix::fs::symlink(tools::packages(), &beside) {
                    assert!(beside.exists(), "{}: {error}", beside.display());
                }
                let mut command = tools::command(home, &tools::program("node"));
                command.arg(copy);
                command
            }
        };
        command.env("OPENAI_BASE_URL", base_url).env("OPENAI_API_KEY", key).args(arguments);
        Output::of(command, "").await
    }

    /// What one call that fails came to: its key and body are given.
    pub(crate) async fn matrix(self, home: &Home, base_url: &str, (key, body): &(String, Value)) -> Output {
        self.run(home, "responses", (base_url, key), &[&body.to_string()]).await
    }

    /// The release that is installed has to be the one that the documents name.
    async fn check(self, home: &Home) {
        let found = match self {
            Self::Python => {
                let mut command = tools::command(home, &tools::program("python3"));
                command.args(["-c", "import openai; print(openai.__version__)"]);
                Output::of(command, "").await.stdout.trim().to_owned()
            }
            Self::Node => {
                let package = std::fs::read_to_string(tools::packages().join("openai/package.json"));
                let package: Value = serde_json::from_str(&package.unwrap_or_default()).unwrap_or_default();
                package["version"].as_str().unwrap_or_default().to_owned()
            }
        };
        if found != self.version() {
            tools::missing(&format!("OpenAI's SDK {} for {self:?} (this is {found:?})", self.version()));
        }
    }
}

impl Place {
    /// What a script saw.
    pub(crate) async fn sdk(&self, sdk: Sdk, script: &str, arguments: &[&str]) -> Value {
        sdk.check(&self.home).await;
        let base_url = format!("http://{}/v1", self.switchboard.address());
        let output = sdk.run(&self.home, script, (&base_url, &self.switchboard.key()), arguments).await;
        output.ok().json()
    }
}
