//! A file of the spool becomes an object, in pieces that memory holds. An upload that is cut off leaves nothing behind: its id is
//! kept beside the file, and with it the next attempt has the store forget it. One id is kept, the oldest.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;
use object_store::{MultipartId, MultipartUpload, ObjectStoreExt, PutPayload};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::names::hex;
use super::store::{AccessError, Digest, Made, Multipart, Store};

/// Parts that every store takes of one object.
const MAX_PARTS: u64 = 10_000;

/// How long the store may take to forget an upload. It is told again with the next attempt.
const FORGET: Duration = Duration::from_secs(5);

/// A file that is to be uploaded.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    /// Where the id of the upload is kept meanwhile.
    pub(super) upload: PathBuf,
    /// What is in it.
    pub(super) content: Digest,
}

/// Why nothing was uploaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    #[error("the store: {0}")]
    Store(#[from] AccessError),
    #[error("the spool: {0}")]
    Spool(#[from] io::Error),
    #[error(
        "the file in the spool is not what it was when it was closed: the disk has damaged it, or somebody else written to it"
    )]
    Changed,
}

impl From<object_store::Error> for UploadError {
    fn from(error: object_store::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Makes the object of a file, unless there is one of this name.
pub(super) async fn upload(store: &Store, key: &Path, source: &Source) -> Result<Made, UploadError> {
    if store.is_directory() {
        let mut parts = Parts::of(store, source)?;
        while !parts.next().await?.is_empty() {}
        parts.check(source)?;
        let (store, path, key) = (store.clone(), source.path.clone(), key.clone());
        let linked = tokio::task::spawn_blocking(move || store.link(&path, &key)).await;
        if let Some(made) = linked.map_err(io::Error::other)? {
            return Ok(made);
        }
    }
    let mut parts = Parts::of(store, source)?;
    if source.content.bytes <= store.part() as u64 {
        let content = parts.next().await?;
        parts.check(source)?;
        return Ok(store.make(key, content).await?);
    }
    match store.parts() {
        Some(client) => in_parts(store, client, key, source, &mut parts).await,
        None => beside(store, key, source, &mut parts).await,
    }
}

/// Makes the object in a directory: written beside it under another name, and given its own only if nothing has it.
async fn beside(store: &Store, key: &Path, source: &Source, parts: &mut Parts) -> Result<Made, UploadError> {
    store.clear_leftovers(key);
    let whole = Path::parse(format!("{key}.part")).expect("invariant: a key with something after it is one");
    let mut upload = store.objects().put_multipart(&whole).await?;
    if let Err(error) = write(upload.as_mut(), source, parts).await {
        // A full disk: what was written of it goes at once.
        let _ = upload.abort().await;
        return Err(error);
    }
    match store.objects().rename_if_not_exists(&whole, key).await {
        Ok(()) => Ok(Made::Made),
        Err(object_store::Error::AlreadyExists { .. }) => {
            store.clear_leftovers(key);
            Ok(Made::Taken)
        }
        Err(error) => Err(error.into()),
    }
}

async fn write(upload: &mut dyn MultipartUpload, source: &Source, parts: &mut Parts) -> Result<(), UploadError> {
    loop {
        let part = parts.next().await?;
        if part.is_empty() {
            break;
        }
        upload.put_part(PutPayload::from(part)).await?;
    }
    parts.check(source)?;
    upload.complete().await?;
    Ok(())
}

/// Makes the object of parts that the store puts together.
async fn in_parts(
    store: &Store,
    client: &Arc<dyn Multipart>,
    key: &Path,
    source: &Source,
    parts: &mut Parts,
) -> Result<Made, UploadError> {
    let has_place = forget_kept(client, key, source).await;
    let id = store.within(client.create_multipart(key)).await?;
    if has_place && let Err(error) = fs::write(&source.upload, &id) {
        // A full disk: should we be killed now, the store keeps parts that nobody asks for, as long as its rules say.
        tracing::debug!(%error, "the id of an upload is not kept");
    }
    let made = put_together(store, client, key, &id, source, parts).await;
    let is_over = matches!(made, Ok(Made::Made)) || forget(client, key, &id).await;
    if has_place && is_over {
        let _ = fs::remove_file(&source.upload);
    } else if is_over {
        forget_kept(client, key, source).await;
    }
    made
}

async fn put_together(
    store: &Store,
    client: &Arc<dyn Multipart>,
    key: &Path,
    id: &MultipartId,
    source: &Source,
    parts: &mut Parts,
) -> Result<Made, UploadError> {
    let mut ids = Vec::new();
    loop {
        let part = parts.next().await?;
        if part.is_empty() {
            break;
        }
        ids.push(store.within(client.put_part(key, id, ids.len(), PutPayload::from(part))).await?);
    }
    parts.check(source)?;
    // What is put together replaces what has its name. Nothing else has such a name, and this is looked at as late as can be.
    if store.size(key).await?.is_some() {
        return Ok(Made::Taken);
    }
    store.within(client.complete_multipart(key, id, ids)).await?;
    Ok(Made::Made)
}

/// Has the store forget the upload whose id is kept, and says whether none is kept any more.
async fn forget_kept(client: &Arc<dyn Multipart>, key: &Path, source: &Source) -> bool {
    let Ok(id) = fs::read_to_string(&source.upload) else { return true };
    let is_forgotten = forget(client, key, &id).await;
    if is_forgotten {
        let _ = fs::remove_file(&source.upload);
    }
    is_forgotten
}

/// Has the store forget an upload that was cut off. One that does not answer is told another time.
async fn forget(client: &Arc<dyn Multipart>, key: &Path, id: &MultipartId) -> bool {
    let answer = timeout(FORGET, client.abort_multipart(key, id)).await;
    match answer {
        Ok(Ok(()) | Err(object_store::Error::NotFound { .. })) => return true,
        Ok(Err(error)) => tracing::debug!(%key, %error, "an upload that was cut off is not forgotten yet"),
        Err(_) => tracing::debug!(%key, "an upload that was cut off is not forgotten yet"),
    }
    false
}

/// A file in parts.
struct Parts {
    /// There is one, but while it is read.
    file: Option<File>,
    size: usize,
    /// Of what was read so far.
    hash: Sha256,
    bytes: u64,
}

impl Parts {
    /// Of a file of the spool, in the sizes of that store.
    fn of(store: &Store, source: &Source) -> io::Result<Self> {
        let (file, size) = (File::open(&source.path)?, part_size(source.content.bytes, store.part()));
        Ok(Self { file: Some(file), size, hash: Sha256::new(), bytes: 0 })
    }

    /// The next part; an empty one at the end.
    async fn next(&mut self) -> io::Result<Vec<u8>> {
        let mut file = self.file.take().ok_or_else(|| io::Error::other("a part could not be read before"))?;
        let (size, mut hash) = (self.size, std::mem::take(&mut self.hash));
        let read = tokio::task::spawn_blocking(move || {
            let mut part = Vec::with_capacity(size);
            let read = (&mut file).take(size as u64).read_to_end(&mut part);
            hash.update(&part);
            (file, hash, read.map(|_| part))
        });
        let (file, hash, part) = read.await.map_err(io::Error::other)?;
        (self.file, self.hash) = (Some(file), hash);
        self.bytes += part.as_ref().map_or(0, Vec::len) as u64;
        part
    }

    /// Whether what was read is what is to be delivered.
    fn check(&self, source: &Source) -> Result<(), UploadError> {
        let read = Digest { bytes: self.bytes, sha256: hex(&self.hash.clone().finalize()) };
        if read == source.content { Ok(()) } else { Err(UploadError::Changed) }
    }
}

/// Bytes of each part of a file as long as that, so that there are not too many.
fn part_size(bytes: u64, part: usize) -> usize {
    part.max(bytes.div_ceil(MAX_PARTS) as usize)
}

#[cfg(test)]
mod tests {
    use super::super::store::Options;
    use super::*;
    use crate::recording::settings::file_url;

    #[tokio::test]
    async fn a_file_comes_whole_into_a_directory_on_another_disk_and_replaces_nothing() {
        let place = tempfile::tempdir().expect("a directory");
        let url = file_url(&place.path().join("store")).expect("a path");
        let store = Store::open(&url, &Options::new()).expect("opened").with_part(10);
        let content = b"more than one part of sound".to_vec();
        let (path, upload) = (place.path().join("a.ogg"), place.path().join("a.ogg.upload"));
        fs::write(&path, &content).expect("written");
        let source = Source { path, upload, content: Digest::of(&content) };
        let key = store.key("room", "a.ogg");
        for expected in [Made::Made, Made::Taken] {
            let mut parts = Parts::of(&store, &source).expect("opened");
            assert_eq!(beside(&store, &key, &source, &mut parts).await.expect("answered"), expected);
            assert_eq!(fs::read(place.path().join("store/room/a.ogg")).expect("there"), content);
            assert_eq!(fs::read_dir(place.path().join("store/room")).expect("read").count(), 1);
        }
        fs::write(&source.path, "something else").expect("written");
        let (other, mut parts) = (store.key("room", "b.ogg"), Parts::of(&store, &source).expect("opened"));
        let refused = beside(&store, &other, &source, &mut parts).await.expect_err("it is not what it was");
        assert!(matches!(refused, UploadError::Changed), "{refused}");
        assert_eq!(fs::read_dir(place.path().join("store/room")).expect("read").count(), 1);
    }

    #[test]
    fn the_largest_files_have_larger_parts_rather_than_more() {
        let part = 8 << 20;
        assert_eq!(part_size(1, part), part);
        assert_eq!(part_size(part as u64 * MAX_PARTS, part), part);
        let bytes: u64 = 300 << 30;
        assert!(bytes.div_ceil(part_size(bytes, part) as u64) <= MAX_PARTS);
    }
}
