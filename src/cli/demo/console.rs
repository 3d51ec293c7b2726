//! The way to the console of the demo's server: a user, and links by which whoever watches logs in as that.

use std::{path::Path, sync::Arc};

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::blocking;
use crate::{
    cli::{
        client::{Client, CommandError},
        output::remark,
        user::login_link,
    },
    config::ROLES,
    server::Server,
};

/// Who watches.
const NAME: &str = "demo";
const RANDOM_BYTES: usize = 32;

/// Adds the user, who may do everything and has a password that nobody knows, and says where the console is. Returns that.
pub(super) fn open(client: &Client) -> Result<String, CommandError> {
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random).map_err(|error| {
        CommandError::Arguments(format!("the system gives nothing random: {error}"))
    })?;
    let grants = ROLES.map(|role| json!({ "role": role }));
    let user = json!({ "name": NAME, "password": hex::encode(random), "grants": grants });
    client.post("/v1/users", &user)?;
    say_where(client)
}

/// Says where the console is, with a link that is good once. Returns that.
fn say_where(client: &Client) -> Result<String, CommandError> {
    let (address, _) = login_link(client, NAME)?;
    remark(&format!("Console: {address}"));
    Ok(address)
}

/// Says it again. A link that nobody has used stays what it is: a new one would end it under somebody's hands.
fn say_again(client: &Client, address: &str) -> Result<(), CommandError> {
    let user = client.get(&format!("/v1/users/{NAME}"), &[])?;
    if user["last_login_at"].is_null() {
        remark(&format!("Console: {address}"));
        return Ok(());
    }
    say_where(client).map(drop)
}

/// Says where the console is and waits until it is told to end.
pub(super) async fn keep(
    server: &mut Server,
    client: &Arc<Client>,
    (address, token_file): (String, &Path),
) -> Result<(), String> {
    let no_signals = |error| format!("the system gives no signals: {error}");
    // before anybody is told that they are waited for
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let asked = client.clone();
    blocking(move || say_again(&asked, &address).map_err(|error| error.to_string())).await?;
    remark(&format!(
        "The link is good once, for ten minutes; another one: cellwise user link {NAME} --api {} --token-file {}",
        client.address_of(""),
        token_file.display()
    ));
    remark("The server and its devices stay until Ctrl-C");
    tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        part = server.failed() => Err(format!("the demo ends because the server's {part} has failed")),
    }
}
