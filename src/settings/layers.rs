//! Where settings come from: files, `.env` and the environment, later ones over
//! earlier ones, each value with its source.

use std::collections::BTreeMap;
use std::path::Path;

use config::{Environment, File, FileFormat, Map, Source, Value, ValueKind};

use super::Fault;

/// The file that is read if it is there.
const DEFAULT_FILE: &str = "settings/default.toml";

/// What environment variables of the gateway begin with.
const PREFIX: &str = "MT5_GATEWAY";

/// A value and where it came from.
#[derive(Debug, Clone)]
pub struct Leaf {
    pub value: Value,
    pub source: String,
}

/// Every value by its dotted key.
#[derive(Debug, Default)]
pub struct Layers {
    pub leaves: BTreeMap<String, Leaf>,
    /// Sources that were read, in order.
    pub sources: Vec<String>,
    pub faults: Vec<Fault>,
}

impl Layers {
    /// Reads every source below `directory`.
    pub fn read(
        directory: &Path,
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Layers {
        let mut layers = Layers::default();
        let default_file = directory.join(DEFAULT_FILE);
        if default_file.exists() {
            layers.file(&default_file, DEFAULT_FILE);
        }
        if let Some(file) = file {
            layers.file(file, &file.display().to_string());
        }
        let env_file = directory.join(".env");
        if env_file.exists() {
            let variables = dotenvy::from_path_iter(&env_file)
                .and_then(|variables| variables.collect::<Result<Vec<_>, _>>());
            match variables {
                Ok(variables) => layers.environment(variables, ".env"),
                Err(error) => layers.fault("", ".env", error.to_string()),
            }
        }
        layers.environment(environment, "environment");
        layers
    }

    fn fault(&mut self, key: &str, source: &str, message: String) {
        self.faults.push(Fault { key: key.to_owned(), origin: source.to_owned(), message });
    }

    fn file(&mut self, path: &Path, source: &str) {
        match File::from(path).format(FileFormat::Toml).collect() {
            Ok(map) => self.add(map, source),
            Err(error) => self.fault("", source, error.to_string()),
        }
    }

    fn environment(&mut self, variables: impl IntoIterator<Item = (String, String)>, source: &str) {
        let variables: Map<String, String> = variables.into_iter().collect();
        let environment = Environment::with_prefix(PREFIX)
            .prefix_separator("__")
            .separator("__")
            .source(Some(variables));
        match environment.collect() {
            Ok(map) if map.is_empty() => {}
            Ok(map) => self.add(map, source),
            Err(error) => self.fault("", source, error.to_string()),
        }
    }

    fn add(&mut self, map: Map<String, Value>, source: &str) {
        self.sources.push(source.to_owned());
        for (key, value) in map {
            self.flatten(key, value, source);
        }
    }

    fn flatten(&mut self, key: String, value: Value, source: &str) {
        if let ValueKind::Table(table) = value.kind {
            for (name, value) in table {
                self.flatten(format!("{key}.{name}"), value, source);
            }
        } else {
            self.leaves.insert(key, Leaf { value, source: source.to_owned() });
        }
    }
}
