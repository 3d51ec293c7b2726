mod settings;

use std::{fs, io::Write, path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    client::{self, ApiArgs, Client, CommandError, SeenArgs},
    list::{ListArgs, ResultArgs, Table},
    output::{self, Format, counted},
};
use settings::{SaidArgs, peculiar};

/// `cellwise product`.
#[derive(Debug, Subcommand)]
pub enum ProductCommand {
    /// List the products that somebody has created.
    List(ListArgs<100>),
    /// Show a product: its settings, whether its packages have to be signed, and how much names it.
    Show(ShowArgs),
    /// Create a product.
    Add(AddArgs),
    /// Change the settings of a product, or whether its packages have to be signed.
    Set(SetArgs),
    /// Remove a product that nothing names, and its keys.
    Remove(RemoveArgs),
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

/// `cellwise product add`.
#[derive(Debug, Args)]
#[group(skip)]
pub struct AddArgs {
    /// Its name: 1 to 64 characters out of A-Z a-z 0-9 . _ -
    product: String,
    #[command(flatten)]
    said: SaidArgs,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise product set`.
#[derive(Debug, Args)]
#[group(skip)]
pub struct SetArgs {
    /// The product.
    product: String,
    #[command(flatten)]
    said: SaidArgs,
    #[command(flatten)]
    seen: SeenArgs,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise product remove`.
#[derive(Debug, Args)]
#[group(skip)]
pub struct RemoveArgs {
    /// The product.
    product: String,
    #[command(flatten)]
    api: ApiArgs,
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
    created: bool,
    signatures: String,
    settings: Map<String, Value>,
    keys: u64,
    devices: Option<u64>,
    packages: Option<u64>,
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
            Self::List(args) => list(&args, out),
            Self::Show(args) => show(&args, out),
            Self::Add(args) => add(&args, out),
            Self::Set(args) => set(&args, out),
            Self::Remove(args) => remove(&args, out),
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

fn list(args: &ListArgs<100>, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let table = Table {
        headings: ["PRODUCT", "SIGNATURES", "KEYS", "SETTINGS"],
        row: |view: ProductView| {
            let settings: Vec<String> = peculiar(&view.settings)
                .into_iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            [
                view.product,
                view.signatures,
                view.keys.to_string(),
                settings.join(" "),
            ]
        },
    };
    table.list(args, ("/v1/products", &[]), &client, out)?;
    Ok(())
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
    if !view.created {
        writeln!(out, "nobody has created it: it is as usual")?;
    }
    for (name, value) in peculiar(&view.settings) {
        writeln!(out, "{name} = {value}")?;
    }
    if let (Some(devices), Some(packages)) = (view.devices, view.packages) {
        let (devices, packages) = (counted(devices, "device"), counted(packages, "package"));
        writeln!(out, "{devices}, {packages}")?;
    }
    Ok(())
}

fn add(args: &AddArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.result.api)?;
    let mut body = args.said.body().unwrap_or_default();
    body.insert("product".to_owned(), json!(args.product));
    let product = client.post("/v1/products", &Value::Object(body))?;
    told(&client, &product, &args.said, &args.result, out)
}

/// Tells a product that was created or changed.
fn told(
    client: &Client,
    product: &Value,
    said: &SaidArgs,
    result: &ResultArgs,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    if result.format == Format::Json {
        output::json(out, product)?;
        return Ok(());
    }
    let view: ProductView = client.view(product)?;
    if view.keys == 0 && said.requires_signatures() {
        output::remark("it has no key: no package can be uploaded until one is added");
    }
    tell(&view, out)
}

fn remove(args: &RemoveArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = Client::new(&args.api)?;
    client.delete(&path(&args.product))?;
    writeln!(out, "product {} removed", args.product)?;
    Ok(())
}

fn set(args: &SetArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let Some(body) = args.said.body() else {
        let nothing = "nothing is to be changed: give --signatures or a setting; --help lists them";
        return Err(CommandError::Arguments(nothing.to_owned()));
    };
    let client = Client::new(&args.result.api)?;
    let body = Value::Object(body);
    let product = client.patch_seen(&path(&args.product), &body, args.seen)?;
    told(&client, &product, &args.said, &args.result, out)
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
