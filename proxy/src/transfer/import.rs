//! Into a new SQLite file.

use std::{collections::BTreeSet, fmt, sync::Arc};

use anyhow::{Context as _, Result};
use keyloom_sqlstore::{Imported, Importer, Snapshot, SystemClock};
use tokio::task::spawn_blocking;
use tracing::info;

use super::{End, Progress, source::Source};
use crate::environment::Environment;

/// What an import did.
#[derive(Debug)]
pub(crate) struct ImportSummary {
    from: String,
    to: String,
    at: i64,
    imported: Imported,
    own: i64,
    is_kine: bool,
}

/// Copies everything that `from` has into the new file `to`.
///
/// # Errors
/// Where anything stands in the way; then there is no file.
pub(crate) async fn import(from: End, to: End, environment: &Environment) -> Result<ImportSummary> {
    let options = to
        .file()?
        .context("--to must be a new SQLite file: --to sqlite://PATH")?;
    let random = Arc::clone(&environment.random);
    let importer = spawn_blocking(move || Importer::begin(&options, random.as_ref())).await??;
    let opened = from.open(environment).await?;
    let copied = copy(&opened, &from, importer).await;
    opened.close().await;
    let (at, imported, own, is_kine) = copied?;
    Ok(ImportSummary {
        from: from.name(),
        to: to.name(),
        at,
        imported,
        own,
        is_kine,
    })
}

async fn copy(
    opened: &super::Opened,
    from: &End,
    mut importer: Importer,
) -> Result<(i64, Imported, i64, bool)> {
    let source = Source::new(Arc::clone(&opened.store), from.name()).await?;
    let mut pages = source.pages(0);
    let mut progress = Progress::new("copying");
    let mut named = BTreeSet::new();
    while let Some(page) = pages.next().await? {
        progress.add(&page);
        named.extend(page.kvs.iter().map(|kv| kv.lease).filter(|id| *id != 0));
        importer = spawn_blocking(move || importer.add(&page.kvs).map(|()| importer)).await??;
    }
    // After the keys: what is left of a lease is then no more than it will be.
    let leases = source.leases(&named).await?;
    let revision = pages.revision();
    info!(
        keys = progress.keys,
        revision, "all keys are read; building the database"
    );
    let snapshot = Snapshot { revision, leases };
    let finish = move || importer.finish(&snapshot, &SystemClock);
    let imported = spawn_blocking(finish).await??;
    Ok((revision, imported, pages.own, source.is_kine))
}

impl fmt::Display for ImportSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Imported {
            keys,
            leases,
            revision,
        } = self.imported;
        let (from, to, at) = (&self.from, &self.to, self.at);
        write!(
            f,
            "imported {from} at revision {at} into {to}: {keys} keys, {leases} leases; it goes on \
             at revision {revision}, and nothing below can be read"
        )?;
        if self.is_kine {
            write!(
                f,
                "; a kine has neither versions nor leases: changed keys have version 2, and times \
                 to live begin anew"
            )?;
        }
        if self.own > 0 {
            write!(f, "; {} keys of a Keyloom's ledger were left out", self.own)?;
        }
        Ok(())
    }
}
