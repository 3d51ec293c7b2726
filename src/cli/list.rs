//! Lists of the API, as tables or as JSON.

use std::io::Write;

use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    client::{ApiArgs, Client, CommandError},
    output::{self, Format},
};

/// Which server a command is for, and how its result is given.
#[derive(Debug, Args)]
pub struct ResultArgs {
    /// The form of the result.
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
    #[command(flatten)]
    pub(super) api: ApiArgs,
}

/// A list of at most `LIMIT` items when nothing is said.
#[derive(Debug, Args)]
#[group(skip)] // a command that has more to say is called the same
pub struct ListArgs<const LIMIT: u32> {
    /// List at most so many.
    #[arg(long, default_value_t = LIMIT, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) limit: u32,
    #[command(flatten)]
    pub(super) result: ResultArgs,
}

/// How a list is shown: its headings, and an item's cells.
pub(super) struct Table<const N: usize, F> {
    pub(super) headings: [&'static str; N],
    pub(super) row: F,
}

impl<const N: usize, F> Table<N, F> {
    /// Asks for a list and writes it. Returns how many items it has.
    pub(super) fn list<V: DeserializeOwned, const LIMIT: u32>(
        &self,
        args: &ListArgs<LIMIT>,
        (path, query): (&str, &[(&str, String)]),
        client: &Client,
        out: &mut dyn Write,
    ) -> Result<usize, CommandError>
    where
        F: Fn(V) -> [String; N],
    {
        let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
        let (items, more) = client.list(path, query, limit)?;
        match args.result.format {
            Format::Json => output::json(out, &json!({"items": items, "more": more}))?,
            Format::Text => {
                self.write(client, &items, out)?;
                if more {
                    output::remark("there are more; give --limit");
                }
            }
        }
        Ok(items.len())
    }

    /// Writes items as a table.
    pub(super) fn write<V: DeserializeOwned>(
        &self,
        client: &Client,
        items: &[Value],
        out: &mut dyn Write,
    ) -> Result<(), CommandError>
    where
        F: Fn(V) -> [String; N],
    {
        let rows = (items.iter())
            .map(|item| Ok((self.row)(client.view(item)?)))
            .collect::<Result<Vec<_>, CommandError>>()?;
        output::table(out, self.headings, &rows)?;
        Ok(())
    }
}
