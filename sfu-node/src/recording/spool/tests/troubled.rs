//! A store in memory that can be away, or stop answering from some operation on.

use std::fmt;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// It, and all its clones.
#[derive(Clone, Debug)]
pub(super) struct Troubled {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    objects: InMemory,
    away: AtomicBool,
    refused: AtomicU64,
    /// What is in the names that it does not take.
    forbidden: Mutex<Option<String>>,
    /// Operations that are still answered.
    answers: AtomicU64,
    hangs: AtomicBool,
    uploads: Mutex<Vec<MultipartId>>,
    keeps_uploads: AtomicBool,
}

impl Troubled {
    pub(super) fn new() -> Self {
        let inner = Inner {
            objects: InMemory::new(),
            away: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            forbidden: Mutex::default(),
            answers: AtomicU64::new(u64::MAX),
            hangs: AtomicBool::new(false),
            uploads: Mutex::default(),
            keeps_uploads: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    pub(super) fn go_away(&self, away: bool) {
        self.inner.away.store(away, Ordering::SeqCst);
    }

    /// From now on refuses all that is called so.
    pub(super) fn forbid(&self, name: &str) {
        *self.inner.forbidden.lock().expect("whole") = Some(name.to_owned());
    }

    /// How often it was away when it was asked, or asked for what it refuses.
    pub(super) fn refused(&self) -> u64 {
        self.inner.refused.load(Ordering::SeqCst)
    }

    /// Answers so many operations more.
    pub(super) fn hang_after(&self, operations: u64) {
        self.inner.answers.store(operations, Ordering::SeqCst);
        self.inner.hangs.store(false, Ordering::SeqCst);
    }

    /// Whether somebody waits for nothing.
    pub(super) fn hangs(&self) -> bool {
        self.inner.hangs.load(Ordering::SeqCst)
    }

    /// Whether it answers with an error when an upload is given up.
    pub(super) fn refuse_to_forget(&self, refuse: bool) {
        self.inner.keeps_uploads.store(refuse, Ordering::SeqCst);
    }

    /// Uploads that were begun, and neither completed nor given up.
    pub(super) fn uploads_left(&self) -> usize {
        self.inner.uploads.lock().expect("whole").len()
    }

    /// Names of all objects, in order.
    pub(super) async fn names(&self) -> Vec<String> {
        let all: Vec<_> = self.inner.objects.list(None).try_collect().await.expect("in memory");
        let mut names: Vec<_> = all.into_iter().map(|meta| meta.location.to_string()).collect();
        names.sort();
        names
    }

    pub(super) async fn read(&self, name: &str) -> Vec<u8> {
        let object = self.inner.objects.get(&Path::parse(name).expect("a name")).await.expect("it is there");
        object.bytes().await.expect("in memory").to_vec()
    }

    fn allow(&self, at: &Path) -> Result<()> {
        let forbidden = self.inner.forbidden.lock().expect("whole");
        if !forbidden.as_ref().is_some_and(|name| at.as_ref().contains(name)) {
            return Ok(());
        }
        self.inner.refused.fetch_add(1, Ordering::SeqCst);
        Err(Error::PermissionDenied { path: at.to_string(), source: "not this one".into() })
    }

    /// Each operation comes by here twice, so that an answer can be lost as well as a question.
    async fn pass(&self) -> Result<()> {
        if self.inner.away.load(Ordering::SeqCst) {
            self.inner.refused.fetch_add(1, Ordering::SeqCst);
            return Err(Error::Generic { store: "troubled", source: "is away".into() });
        }
        let left = self.inner.answers.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_err() {
            self.inner.hangs.store(true, Ordering::SeqCst);
            pending::<()>().await;
        }
        Ok(())
    }

    fn forget(&self, id: &MultipartId) {
        self.inner.uploads.lock().expect("whole").retain(|upload| upload != id);
    }
}

impl fmt::Display for Troubled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("troubled")
    }
}

#[tonic::async_trait]
impl ObjectStore for Troubled {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.allow(at)?;
        self.pass().await?;
        let put = self.inner.objects.put_opts(at, payload, options).await;
        self.pass().await?;
        put
    }

    async fn put_multipart_opts(&self, at: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.objects.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.pass().await?;
        self.inner.objects.get_opts(at, options).await
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        panic!("nothing is ever removed from a store")
    }

    fn list(&self, below: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.objects.list(below)
    }

    async fn list_with_delimiter(&self, below: Option<&Path>) -> Result<ListResult> {
        self.inner.objects.list_with_delimiter(below).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.objects.copy_opts(from, to, options).await
    }
}

#[tonic::async_trait]
impl MultipartStore for Troubled {
    async fn create_multipart(&self, at: &Path) -> Result<MultipartId> {
        self.pass().await?;
        let id = self.inner.objects.create_multipart(at).await?;
        // An answer that is lost here cannot be made up for: such uploads are the business of the bucket's rules.
        self.inner.uploads.lock().expect("whole").push(id.clone());
        Ok(id)
    }

    async fn put_part(&self, at: &Path, id: &MultipartId, part: usize, payload: PutPayload) -> Result<PartId> {
        self.pass().await?;
        let put = self.inner.objects.put_part(at, id, part, payload).await;
        self.pass().await?;
        put
    }

    async fn complete_multipart(&self, at: &Path, id: &MultipartId, parts: Vec<PartId>) -> Result<PutResult> {
        self.pass().await?;
        let complete = self.inner.objects.complete_multipart(at, id, parts).await;
        self.forget(id);
        self.pass().await?;
        complete
    }

    async fn abort_multipart(&self, at: &Path, id: &MultipartId) -> Result<()> {
        self.pass().await?;
        if self.inner.keeps_uploads.load(Ordering::SeqCst) {
            return Err(Error::Generic { store: "troubled", source: "does not forget".into() });
        }
        self.forget(id);
        self.inner.objects.abort_multipart(at, id).await
    }
}
