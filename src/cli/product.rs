use std::{fs, io::Write, path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand, ValueEnum};
use serde::Deserialize;
use serde_json::json;

use super::{
    client::{self, ApiArgs, Client, CommandError},
    list::{ResultArgs, Table},
    output::{self, Format, counted},
};

/// `cellwise product`.
#[derive(Debug, Subcommand)]
pub enum ProductCommand {
    /// Show whether a product's packages have to be signed.
    Show(ShowArgs),
    /// Say whether a product's packages have to be signed.
    Set(SetArgs),
    /// Keys that vouch for a product's packages.
    #[command(subcommand)]
    Key(KeyCommand),
}

/// `cellwise product key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Add a public key.
    Add(AddKeyArgs),
    /// List the keys of a product.
    List(ShowArgs),
    /// Remove a key: no new task takes packages for which it vouched.
    Remove(RemoveKeyArgs),
}

/// `cellwise product show`, `cellwise product key list`.
#[derive(Debug, Args)]
#[group(skip)]
pub struct ShowArgs {
    /// The product.
    product: String,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise product set`.
#[derive(Debug, Args)]
#[group(skip)]
pub struct SetArgs {
    /// The product.
    product: String,
    /// Whether its packages have to be signed.
    #[arg(long, value_enum)]
    signatures: SignaturesArg,
    #[command(flatten)]
    result: ResultArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SignaturesArg {
    Optional,
    Required,
}

/// `cellwise product key add`.
#[derive(Debug, Args)]
#[group(skip)]
pub struct AddKeyArgs {
    /// The product.
    product: String,
    /// The public key in PEM: Ed25519, ECDSA on P-256, or RSA.
    file: PathBuf,
    /// What to call it.
    #[arg(long, default_value = "")]
    name: String,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise product key remove`.
#[derive(Debug, Args)]
#[group(skip)]
pub struct RemoveKeyArgs {
    /// The product.
    product: String,
    /// The key's id.
    key: String,
    #[command(flatten)]
    api: ApiArgs,
}

#[derive(Debug, Deserialize)]
struct ProductView {
    product: String,
    signatures: String,
    keys: u64,
}

#[derive(Debug, Deserialize)]
struct KeyView {
    id: String,
    name: String,
    algorithm: String,
    created_at: String,
}

#[derive(Debug, Deserialize)]
struct RemovedView {
    packages: u64,
}

impl ProductCommand {
    /// Runs the command.
    pub fn run(self, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
        match self {
            Self::Show(args) => show(&args, out),
            Self::Set(args) => set(&args, out),
            Self::Key(KeyCommand::Add(args)) => add_key(&args, out),
            Self::Key(KeyCommand::List(args)) => list_keys(&args, out),
            Self::Key(KeyCommand::Remove(args)) => remove_key(&args, out),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

fn path(product: &str) -> String {
    format!("/v1/products/{}", client::segment(product))
}

fn show(args: &ShowArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let product = client.get(&path(&args.product), &[])?;
    if args.result.format == Format::Json {
        output::json(out, &product)?;
        return Ok(());
    }
    tell(&client.view(&product)?, out)
}

fn tell(view: &ProductView, out: &mut dyn Write) -> Result<(), CommandError> {
    let keys = counted(view.keys, "key");
    let (product, signatures) = (&view.product, &view.signatures);
    writeln!(out, "product {product}: signatures {signatures}, {keys}")?;
    Ok(())
}

fn set(args: &SetArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let signatures = match args.signatures {
        SignaturesArg::Optional => "optional",
        SignaturesArg::Required => "required",
    };
    let product = client.patch(&path(&args.product), &json!({"signatures": signatures}))?;
    if args.result.format == Format::Json {
        output::json(out, &product)?;
        return Ok(());
    }
    let view: ProductView = client.view(&product)?;
    if view.keys == 0 && args.signatures == SignaturesArg::Required {
        output::remark("it has no key: no package can be uploaded until one is added");
    }
    tell(&view, out)
}

fn add_key(args: &AddKeyArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let pem = fs::read_to_string(&args.file).map_err(|source| CommandError::File {
        path: args.file.clone(),
        source,
    })?;
    let body = json!({"pem": pem, "name": args.name});
    let key = client.post(&format!("{}/keys", path(&args.product)), &body)?;
    match args.result.format {
        Format::Json => output::json(out, &key)?,
        Format::Text => {
            let view: KeyView = client.view(&key)?;
            writeln!(
                out,
                "key {} ({}) vouches for {}",
                view.id, view.algorithm, args.product
            )?;
        }
    }
    Ok(())
}

fn list_keys(args: &ShowArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let keys = client.get(&format!("{}/keys", path(&args.product)), &[])?;
    if args.result.format == Format::Json {
        output::json(out, &keys)?;
        return Ok(());
    }
    let items = keys.get("items").and_then(serde_json::Value::as_array);
    let table = Table {
        headings: ["ID", "ALGORITHM", "ADDED", "NAME"],
        row: |view: KeyView| [view.id, view.algorithm, view.created_at, view.name],
    };
    table.write(&client, items.map_or(&[], Vec::as_slice), out)
}

fn remove_key(args: &RemoveKeyArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.api)?;
    let path = format!(
        "{}/keys/{}",
        path(&args.product),
        client::segment(&args.key)
    );
    let removed = client.delete_with_answer(&path)?;
    let view: RemovedView = client.view(&removed)?;
    writeln!(out, "key {} removed", args.key)?;
    if view.packages > 0 {
        let packages = counted(view.packages, "package");
        writeln!(
            out,
            "no new task takes the {packages} for which it vouched; upload them again with a signature by another key"
        )?;
    }
    Ok(())
}
