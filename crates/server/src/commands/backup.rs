//! `twinhub backup` asks the running server for a backup and calls it done only when it was read back; `twinhub restore` makes a
//! data directory from one.

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use http_body_util::BodyExt;
use server::out;

use super::DataDirArgs;
use crate::backup::unpack;
use crate::data_directory::at;
use crate::live::Live;
use crate::{Failure, config, data_directory};

#[derive(Args)]
pub(crate) struct BackupArgs {
    /// A tar file that must not be there yet; it will hold secrets
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
}

#[derive(Args)]
pub(crate) struct RestoreArgs {
    /// What `twinhub backup` wrote
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// An empty directory, or one that is not there yet
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
}

pub(crate) fn backup(args: &BackupArgs) -> Result<ExitCode, Failure> {
    let data_dir = config::load(&args.data_dir.layer())?.data_dir;
    let live = Live::of_running(&data_dir)?;
    let unfinished = beside(&args.file, "unfinished");
    let mut file = data_directory::take_private(&unfinished)?;
    if args.file.exists() {
        fs::remove_file(&unfinished).map_err(at(&unfinished))?;
        return Err(format!("{} is there already; give another name", args.file.display()).into());
    }
    let made = fetch(&live, &mut file).and_then(|()| look_into(&args.file, &mut file));
    if made.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    for line in made? {
        out::line(line);
    }
    fs::rename(&unfinished, &args.file).map_err(at(&args.file))?;
    sync_folder(&args.file).map_err(at(&args.file))?;
    out::line(format_args!(
        "{} is complete and was read back. It holds secrets (keys, credentials, the certificate authority): keep it as safe as {}.",
        args.file.display(),
        data_dir.display()
    ));
    Ok(ExitCode::SUCCESS)
}

fn beside(file: &Path, what: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{what}"));
    name.into()
}

fn fetch(live: &Live, file: &mut File) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut body = live.follow("POST", "/_twinhub/backup").await?;
        while let Some(frame) = body.frame().await {
            file.write_all(frame?.data_ref().map_or(&[], |data| &data[..]))?;
        }
        Ok::<(), Failure>(())
    })?;
    Ok(file.sync_all()?)
}

/// Unpacks the backup beside itself, opens it, and throws that away.
fn look_into(path: &Path, file: &mut File) -> Result<Vec<String>, Failure> {
    let folder = beside(path, "checked");
    // A command that was killed may have left one.
    let _ = fs::remove_dir_all(&folder);
    data_directory::make(&folder)?;
    // Through the same handle: elsewhere than on Unix nobody else may read what is locked.
    file.rewind()?;
    let found = unpack::unpack(path, file.try_clone()?, &folder).and_then(|()| unpack::open_all(&folder));
    fs::remove_dir_all(&folder).map_err(at(&folder))?;
    found
}

fn sync_folder(file: &Path) -> std::io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    // Directories cannot be opened as files there; NTFS journals names by itself.
    if cfg!(windows) { Ok(()) } else { File::open(folder.unwrap_or(Path::new(".")))?.sync_all() }
}

pub(crate) fn restore(args: &RestoreArgs) -> Result<ExitCode, Failure> {
    let data_dir = std::path::absolute(&args.data_dir)?;
    let file = File::open(&args.file).map_err(at(&args.file))?;
    let mark = unpack::claim(&data_dir)?;
    let restored = unpack::unpack(&args.file, file, &data_dir).and_then(|()| unpack::open_all(&data_dir));
    if restored.is_err() {
        unpack::give_up(&data_dir)?;
    }
    for line in restored? {
        out::line(line);
    }
    unpack::release(&data_dir)?;
    drop(mark);
    out::line(format_args!(
        "restored into {0}; start it with: twinhub serve --data-dir {0}",
        data_dir.display()
    ));
    Ok(ExitCode::SUCCESS)
}
