//! Names of environment variables: which ones are settings, and which ones were probably meant to
//! be.

/// The prefix of the gateway's environment variables.
pub const PREFIX: &str = "MT5_GATEWAY";

/// The sections of the settings, for names that lack an underscore.
const SECTIONS: [&str; 9] =
    ["SERVER", "RESTART", "AUTH", "READS", "STREAMS", "TRADING", "METRICS", "LOG", "ACCOUNTS"];

/// Whether a variable is a setting of the gateway.
pub fn is_ours(name: &str) -> bool {
    after(name, "MT5_GATEWAY__").is_some()
}

/// The rest of a name in capitals, if it begins with `prefix`.
fn after(name: &str, prefix: &str) -> Option<String> {
    name.to_ascii_uppercase().strip_prefix(prefix).map(str::to_owned)
}

/// The variable that was probably meant by a name that is ignored, such as
/// `MT5_GATEWAY_LOG__FORMAT`.
pub fn misspelt(name: &str) -> Option<String> {
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

/// Whether an orchestrator derived a variable from a service's name. Kubernetes and container links
/// set `…_SERVICE_HOST`, `…_SERVICE_PORT`, `…_SERVICE_PORT_HTTP`, `…_PORT`, `…_PORT_8080_TCP`,
/// `…_PORT_8080_TCP_ADDR` and the like for a service `mt5-gateway` or `mt5-gateway-metrics`.
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
