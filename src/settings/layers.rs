//! Where settings come from: files, `.env`, the environment and the command line, later ones over
//! earlier ones, each value with its source.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::{Environment, Map, Source as _, Value, ValueKind};

use super::{Fault, dotenv, files, toml_file};

/// The file that is read if it is there.
const DEFAULT_FILE: &str = "settings/default.toml";

/// The file of environment variables that is read if it is there.
const ENV_FILE: &str = ".env";

/// What environment variables of the gateway begin with.
const PREFIX: &str = "MT5_GATEWAY";

/// The sections that settings have, for names that miss an underscore.
const SECTIONS: [&str; 9] =
    ["SERVER", "RESTART", "AUTH", "READS", "STREAMS", "TRADING", "METRICS", "LOG", "ACCOUNTS"];

/// Something that settings come from.
#[derive(Debug)]
pub struct Source {
    /// What it is called.
    pub name: String,
    /// Its file, if it is one.
    pub file: Option<PathBuf>,
}

impl Source {
    /// Where a relative path stands that the source names: beside its file.
    pub fn directory(&self) -> Option<&Path> {
        self.file.as_deref()?.parent()
    }
}

/// A value and where it came from.
#[derive(Debug, Clone)]
pub struct Leaf {
    pub value: Value,
    pub source: Arc<Source>,
}

/// Every value by its dotted key.
#[derive(Debug, Default)]
pub struct Layers {
    pub leaves: BTreeMap<String, Leaf>,
    /// Sources that were read, in order.
    pub sources: Vec<String>,
    /// Sources, or parts of them, that cannot be read.
    pub faults: Vec<Fault>,
    pub warnings: Vec<Fault>,
}

impl Layers {
    /// Reads every source below `directory`.
    pub fn read(
        directory: &Path,
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        command_line: &[(&str, String)],
    ) -> Layers {
        let mut layers = Layers::default();
        layers.toml_file(&directory.join(DEFAULT_FILE), DEFAULT_FILE, Presence::Optional);
        if let Some(file) = file {
            layers.toml_file(file, &file.display().to_string(), Presence::Required);
        }
        layers.env_file(&directory.join(ENV_FILE));
        layers.environment(environment);
        layers.command_line(command_line);
        layers
    }

    fn fault(&mut self, source: &str, message: impl Into<String>) {
        let (key, origin) = (String::new(), source.to_owned());
        self.faults.push(Fault { key, origin, message: message.into() });
    }

    fn text(&mut self, path: &Path, source: &str, presence: Presence) -> Option<String> {
        match files::read(path) {
            Ok(text) => Some(text),
            Err(files::Fault::Missing) if presence == Presence::Optional => None,
            Err(fault) => {
                self.fault(source, format!("the file {fault}"));
                None
            }
        }
    }

    fn toml_file(&mut self, path: &Path, source: &str, presence: Presence) {
        let Some(text) = self.text(path, source, presence) else {
            return;
        };
        match toml_file::parse(&text) {
            Ok(entries) => self.add(entries, source, Some(path)),
            Err(faults) => faults.into_iter().for_each(|fault| self.fault(source, fault)),
        }
    }

    fn env_file(&mut self, path: &Path) {
        let Some(text) = self.text(path, ENV_FILE, Presence::Optional) else {
            return;
        };
        let (variables, faults) = dotenv::parse(&text);
        for dotenv::Fault { line, name, message } in faults {
            // A name that is not ours may be a secret in the wrong place.
            let name = name.filter(|name| is_ours(name)).map(|name| format!(", `{name}`"));
            let name = name.unwrap_or_default();
            self.fault(ENV_FILE, format!("line {line}{name}: {message}"));
        }
        for variable in variables.iter().filter(|variable| variable.has_comment) {
            if is_ours(&variable.name) {
                let message = format!(
                    "line {}: the value includes everything from ` #` on; a comment needs a line of \
                     its own, and quotes around the value say that it is meant",
                    variable.line
                );
                self.warn(&variable.name, ENV_FILE, message);
            }
        }
        let variables = variables.into_iter().map(|variable| (variable.name, variable.value));
        self.variables(variables.collect(), ENV_FILE, Some(path));
    }

    fn environment(&mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) {
        const ENVIRONMENT: &str = "environment";
        let mut texts = vec![];
        for (name, value) in variables {
            let name = name.to_string_lossy();
            match value.into_string() {
                Ok(value) => texts.push((name.into_owned(), value)),
                Err(_) if is_ours(&name) => {
                    self.fault(ENVIRONMENT, format!("the value of `{name}` is not Unicode"));
                }
                // Somebody else's.
                Err(_) => {}
            }
        }
        self.variables(texts, ENVIRONMENT, None);
    }

    fn variables(&mut self, variables: Vec<(String, String)>, source: &str, file: Option<&Path>) {
        let mut ours: BTreeMap<String, (String, String)> = BTreeMap::new();
        for (name, value) in variables {
            if let Some(meant) = misspelt(&name) {
                let message = format!(
                    "is not read: two underscores separate the parts of a name: write `{meant}`"
                );
                self.warn(&name, source, message);
            }
            if is_ours(&name)
                && let Some((other, _)) =
                    ours.insert(name.to_ascii_lowercase(), (name.clone(), value))
            {
                let names = if other == name { String::new() } else { format!(" as `{other}`") };
                self.fault(source, format!("`{name}` is set twice{names}"));
            }
        }
        let environment = Environment::with_prefix(PREFIX)
            .prefix_separator("__")
            .separator("__")
            .source(Some(ours.into_values().collect::<Map<String, String>>()));
        match environment.collect() {
            Ok(map) if map.is_empty() => {}
            Ok(map) => self.add(map, source, file),
            Err(_) => self.fault(source, "cannot be read as settings"),
        }
    }

    fn command_line(&mut self, settings: &[(&str, String)]) {
        if !settings.is_empty() {
            let entry = |(key, text): &(&str, String)| ((*key).to_owned(), text.as_str().into());
            self.add(settings.iter().map(entry), "command line", None);
        }
    }

    fn warn(&mut self, key: &str, source: &str, message: String) {
        self.warnings.push(Fault { key: key.to_owned(), origin: source.to_owned(), message });
    }

    fn add(
        &mut self,
        entries: impl IntoIterator<Item = (String, Value)>,
        source: &str,
        file: Option<&Path>,
    ) {
        self.sources.push(source.to_owned());
        let source =
            Arc::new(Source { name: source.to_owned(), file: file.map(Path::to_path_buf) });
        for (key, value) in entries {
            // An empty table takes nothing away from an earlier layer.
            let is_table = matches!(value.kind, ValueKind::Table(_));
            if !(is_table && self.leaves.contains_key(&key)) {
                self.leaves.insert(key, Leaf { value, source: source.clone() });
            }
        }
    }
}

/// Whether a source must be there.
#[derive(Clone, Copy, PartialEq)]
enum Presence {
    Optional,
    Required,
}

/// Whether a variable is a setting of the gateway.
fn is_ours(name: &str) -> bool {
    after(name, "MT5_GATEWAY__").is_some()
}

/// The rest of a name in capitals, if it begins with `prefix`.
fn after(name: &str, prefix: &str) -> Option<String> {
    name.to_ascii_uppercase().strip_prefix(prefix).map(str::to_owned)
}

/// The variable that was probably meant by one that is not read, such as `MT5_GATEWAY_LOG__FORMAT`.
fn misspelt(name: &str) -> Option<String> {
    if is_ours(name) || is_service_link(name) {
        return None;
    }
    let rest = after(name, "MT5_GATEWAY_").or_else(|| after(name, "MT5GATEWAY_"))?;
    let rest = rest.trim_start_matches('_');
    let (section, key) = rest.split_once('_')?;
    if !SECTIONS.contains(&section) {
        return None;
    }
    Some(format!("{PREFIX}__{section}__{}", key.trim_start_matches('_')))
}

/// Whether an orchestrator made a variable of a service's name. For a service `mt5-gateway` or
/// `mt5-gateway-metrics` there are `…_SERVICE_HOST`, `…_SERVICE_PORT`, `…_SERVICE_PORT_HTTP`,
/// `…_PORT`, `…_PORT_8080_TCP`, `…_PORT_8080_TCP_ADDR` and the like (Kubernetes, and links of
/// containers).
fn is_service_link(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    if name.contains("__") {
        return false;
    }
    if name.contains("_SERVICE_HOST") || name.contains("_SERVICE_PORT") || name.ends_with("_PORT") {
        return true;
    }
    let Some((_, port)) = name.rsplit_once("_PORT_") else {
        return false;
    };
    let mut parts = port.split('_');
    let is_port = parts.next().is_some_and(|number| number.parse::<u16>().is_ok());
    let is_protocol = matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"));
    let is_end = matches!(parts.next(), None | Some("PROTO" | "PORT" | "ADDR"));
    is_port && is_protocol && is_end && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_is_a_section_after_one_underscore_and_never_a_service_link() {
        let meant = [
            ("MT5_GATEWAY_METRICS__ENABLED", "MT5_GATEWAY__METRICS__ENABLED"),
            ("MT5_GATEWAY_SERVER_LISTEN", "MT5_GATEWAY__SERVER__LISTEN"),
            ("mt5_gateway_server__listen", "MT5_GATEWAY__SERVER__LISTEN"),
            ("MT5_GATEWAY_LOG_FORMAT", "MT5_GATEWAY__LOG__FORMAT"),
            ("MT5_GATEWAY_SERVER_TRUSTED_PROXIES", "MT5_GATEWAY__SERVER__TRUSTED_PROXIES"),
            ("MT5GATEWAY__SERVER__LISTEN", "MT5_GATEWAY__SERVER__LISTEN"),
            ("MT5_GATEWAY_ACCOUNTS__X__LOGIN", "MT5_GATEWAY__ACCOUNTS__X__LOGIN"),
            (
                "MT5_GATEWAY_ACCOUNTS__X__TERMINAL__CONNECT__PORT",
                "MT5_GATEWAY__ACCOUNTS__X__TERMINAL__CONNECT__PORT",
            ),
        ];
        for (name, expected) in meant {
            assert_eq!(misspelt(name).as_deref(), Some(expected), "{name}");
        }
        let silent = [
            "MT5_GATEWAY__SERVER__LISTEN",
            "MT5_GATEWAY__SERVR__LISTEN",
            "MT5_GATEWAY_PORT",
            "MT5_GATEWAY_PORT_8080_TCP",
            "MT5_GATEWAY_PORT_8080_TCP_ADDR",
            "MT5_GATEWAY_PORT_8080_TCP_PROTO",
            "MT5_GATEWAY_SERVICE_HOST",
            "MT5_GATEWAY_SERVICE_PORT_HTTP",
            "MT5_GATEWAY_METRICS_PORT",
            "MT5_GATEWAY_METRICS_PORT_9090_TCP_PORT",
            "MT5_GATEWAY_METRICS_SERVICE_HOST",
            "MT5_GATEWAY_SERVER_SERVICE_PORT",
            "MT5_GATEWAY_URL",
            "MT5_GATEWAY_KEY_FILE",
            "MT5_GATEWAY_IMAGE",
            "MT5_GATEWAY_VERSION",
            "MT5_GATEWAYS_SERVER__LISTEN",
            "PATH",
        ];
        for name in silent {
            assert_eq!(misspelt(name), None, "{name}");
        }
    }
}
