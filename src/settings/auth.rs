//! `[auth]`: API keys, and whether the gateway may be used without one.

use super::auth_keys;
use super::reader::Reader;
use super::server::Server;
use crate::api::Key;

/// Takes the keys, and refuses or warns of an address that is open to everybody. Gives also whether that
/// is allowed.
pub fn take(reader: &mut Reader, server: &Server) -> (Vec<Key>, bool) {
    let allow_anonymous = reader.value("auth.allow_anonymous", false);
    let keys = auth_keys::take(reader);
    if keys.is_empty() && !allow_anonymous && !server.listen.ip().is_loopback() {
        reader.fault(
            "server.listen",
            "without `auth.keys` only a loopback address may be listened on: add a key, \
             or set `auth.allow_anonymous = true` if the network is trusted",
        );
    }
    if keys.is_empty() && !server.listen.ip().is_loopback() {
        reader.warn("auth.allow_anonymous", "everybody who reaches the address may trade");
    }
    if allow_anonymous && !keys.is_empty() {
        reader.warn("auth.allow_anonymous", "it does nothing beside `auth.keys`");
    }
    if keys.is_empty() && server.allowed_hosts.iter().any(|host| host == "*") {
        let message = "without `auth.keys` a page whose name was rebound to this machine can \
                       trade: list the names that clients use";
        reader.warn("server.allowed_hosts", message);
    }
    if keys.is_empty() && server.cors_origins.iter().any(|origin| origin == "*") {
        let message = "without `auth.keys` every page that is open in a browser here can trade: \
                       list the origins of your own pages";
        reader.warn("server.cors_origins", message);
    }
    (keys, allow_anonymous)
}
