//! Static files.
//!
//! # Layout
//! - [`path`]: from the request's path to a mount and a path below its directory, or a refusal (pure)
//! - [`root`]: the directory of a mount, also when it is replaced
//! - [`open`]: opening a file without ever leaving the directory
//! - [`cache_control`], [`glob`]: how long clients may keep a file (pure)
//! - [`conditional`]: validators and preconditions (pure)
//! - [`range`]: the `Range` header (pure)
//! - [`media_type`]: the `Content-Type` of a file name (pure)
//! - [`fallback`]: which paths a single-page application answers (pure)
//! - [`internal`]: files that the application has sent
//! - [`lookup`]: the file at a path, its encoded siblings, the index of a directory
//! - [`respond`]: the answer that sends a file, a part of it, or neither
//! - [`send`]: bodies made of pieces of a file, also for files that a worker hands over
//!
//! A file that is in the page cache is served with `openat2`, `fstat`, `preadv2` and `close`, on the calling thread.
//! Only reads that would wait for the disk go to the blocking pool.

pub mod cache_control;
pub mod conditional;
pub mod fallback;
pub mod glob;
pub mod internal;
mod lookup;
pub mod media_type;
pub mod open;
pub mod path;
pub mod range;
pub mod respond;
pub mod root;
pub mod send;

use super::body::Body;
use super::negotiate::Accepted;
use conditional::Validators;
use fallback::Fallback;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, LOCATION, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, Method, Response, StatusCode};
use lookup::{Found, FoundFile, Wanted};
use path::Resolution;
use respond::{Content, Source};
use root::Root;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

/// Settings of static files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub mounts: Vec<Mount>,
    /// Send `name.br`, `name.zst` or `name.gz` in place of `name` to clients that take it (nginx: `gzip_static`).
    pub precompressed: bool,
    /// The first rule that fits counts (nginx: `expires`).
    pub cache: Vec<cache_control::Rule>,
    /// Types that are not the registered ones (nginx: `types`).
    pub types: Vec<media_type::Custom>,
    pub symlinks: open::Symlinks,
    /// Directories of which files are sent only when the application says so (nginx: `internal`).
    pub internal: Vec<Mount>,
    /// What is sent where there is no file.
    pub fallbacks: Vec<Fallback>,
    /// Paths at and below which `about` may be `about.html`.
    pub clean_urls: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        let (mounts, cache, types) = (Vec::new(), Vec::new(), Vec::new());
        let (internal, fallbacks, clean_urls) = (Vec::new(), Vec::new(), Vec::new());
        let symlinks = open::Symlinks::Inside;
        Self { mounts, precompressed: true, cache, types, symlinks, internal, fallbacks, clean_urls }
    }
}

/// A directory served under a URL prefix (nginx: `location` + `alias`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `/` or `/prefix` without a slash at the end. A mount at `/` lets the application answer what it does not have.
    pub url: String,
    pub directory: PathBuf,
}

/// The value of `Allow` beside [`Outcome::MethodNotAllowed`].
pub const ALLOWED_METHODS: &str = "GET, HEAD";

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileSetupError {
    #[error("static files at {url:?}: the URL must be `/`, or begin with a slash and not end with one")]
    Url { url: String },
    #[error("static files at {url:?}: two directories for the same URL")]
    Duplicate { url: String },
    #[error("static files at {url:?}: there is no directory {}", directory.display())]
    Missing { url: String, directory: PathBuf },
    #[error("static files at {url:?}: {} is not a directory", directory.display())]
    NotADirectory { url: String, directory: PathBuf },
    #[error("static files at {url:?}: cannot open {}: {source}", directory.display())]
    Open { url: String, directory: PathBuf, source: io::Error },
}

/// What static files have to say to a request.
#[derive(Debug)]
pub enum Outcome {
    /// A complete answer: a file or a part of it, 301, 304, 412 or 416.
    Response(Response<Body>),
    /// The path belongs to a mount, which has no such file or does not show it: 404.
    NotFound,
    /// The path belongs to a mount, and the method reads nothing: 405 with [`ALLOWED_METHODS`].
    MethodNotAllowed,
    /// No mount covers the path, or only the one at `/`, which has no such file: the application answers.
    NotMine,
    /// The path belongs to a mount, and the system does not let us read what is there, which was logged: 403.
    Forbidden,
    /// The file is there, and the system failed to open it (out of descriptors, a broken disk): 500.
    Failed(io::Error),
}

/// The opened mounts.
#[derive(Debug)]
pub struct Files {
    /// Longest URL first.
    urls: Vec<String>,
    /// In the order of `urls`.
    roots: Vec<Root>,
    internal_urls: Vec<String>,
    internal: Vec<Root>,
    settings: Settings,
    /// Whether it was said that the application names files which nobody sends.
    told: AtomicBool,
}

impl Files {
    /// Opens every mount, or says everything that is wrong.
    pub fn open(settings: &Settings) -> Result<Self, Vec<FileSetupError>> {
        let mut errors = Vec::new();
        let (urls, roots) = open_all(&settings.mounts, settings.symlinks, &mut errors);
        let (internal_urls, internal) = open_all(&settings.internal, settings.symlinks, &mut errors);
        let files =
            Self { urls, roots, internal_urls, internal, settings: settings.clone(), told: AtomicBool::new(false) };
        if errors.is_empty() { Ok(files) } else { Err(errors) }
    }

    /// Answers a request from the mount with the longest URL that covers its path. `target` is the path of the request
    /// as it was sent, with the query if there is one.
    ///
    /// Never waits for a read of a file's content; names are looked up on the calling thread, as nginx does.
    pub fn answer(&self, method: &Method, target: &str, headers: &HeaderMap) -> Outcome {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let (mount, file) = match path::resolve(path, &self.urls) {
            Resolution::NotCovered => return Outcome::NotMine,
            Resolution::Refused { mount } => return self.nothing_at(mount),
            Resolution::Covered { mount, target } => (mount, target),
        };
        if method != Method::GET && method != Method::HEAD {
            return if self.urls[mount] == "/" { Outcome::NotMine } else { Outcome::MethodNotAllowed };
        }
        let root = &self.roots[mount];
        let codings = self.settings.precompressed.then(|| Accepted::of(headers));
        let clean = self.settings.clean_urls.iter().any(|url| fallback::covers(url, file.path()));
        let wanted = Wanted { types: &self.settings.types, codings, clean };
        match root.find(|place| lookup::find(place, &file, wanted)) {
            Ok(Found::File(found)) => Outcome::Response(self.send((method, headers), mount, found)),
            Ok(Found::DirectoryWithoutSlash) => Outcome::Response(redirect(path, query)),
            Ok(Found::Nothing) => self.instead_of((method, headers), mount, file.path(), wanted),
            Err(error) if open::is_absence(&error) => self.instead_of((method, headers), mount, file.path(), wanted),
            Err(error) if open::is_forbidden(&error) => {
                // Clients choose how often.
                if root.may_complain() {
                    let name = OsStr::from_bytes(file.relative());
                    tracing::warn!("{} cannot be read: {error}", root.path.join(name).display());
                }
                Outcome::Forbidden
            }
            Err(error) => Outcome::Failed(error),
        }
    }

    /// What is sent for a path that is no file.
    fn instead_of(&self, request: (&Method, &HeaderMap), mount: usize, path: &[u8], wanted: Wanted<'_>) -> Outcome {
        let Some(fallback) = fallback::covering(&self.settings.fallbacks, path) else { return self.nothing_at(mount) };
        let Some(name) = &fallback.file else { return Outcome::NotMine };
        if !fallback::is_for_page(request.1, path) {
            return self.nothing_at(mount);
        }
        let Resolution::Covered { mount: owner, .. } = path::resolve(&fallback.url, &self.urls) else {
            return self.nothing_at(mount);
        };
        let Ok(Found::File(found)) = self.roots[owner].find(|place| lookup::find_file(place, name, wanted)) else {
            return self.nothing_at(mount);
        };
        let mut response = self.send(request, owner, found);
        let headers = response.headers_mut();
        // Who does not take HTML gets something else at this address.
        headers.append(VARY, HeaderValue::from_static("accept"));
        // An old page would name files that the new build has no more.
        if !headers.contains_key(CACHE_CONTROL) {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        }
        Outcome::Response(response)
    }

    /// Sends a file, or what of it the client asks for.
    fn send(&self, request: (&Method, &HeaderMap), mount: usize, found: FoundFile<'_>) -> Response<Body> {
        let now = SystemTime::now();
        let opened = found.opened;
        let validators =
            Validators::of_file(opened.inode, opened.length, opened.modified_seconds, opened.modified_nanoseconds, now);
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, found.media_type);
        // The type is decided by the name; a browser must not decide otherwise by the content.
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(name) = found.coding.name() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
        }
        if found.is_negotiable {
            headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        }
        if let Some(value) = self.cache_control(mount, &found.name, found.is_hashed) {
            headers.insert(CACHE_CONTROL, value);
        }
        let content = Content { length: opened.length, source: Source::File(opened.file.into(), 0) };
        respond::complete(response, request, &validators, content, now)
    }

    /// What `Cache-Control` says of a file.
    fn cache_control(&self, mount: usize, name: &[u8], is_hashed: bool) -> Option<HeaderValue> {
        if self.settings.cache.is_empty() {
            return is_hashed.then_some(cache_control::IMMUTABLE);
        }
        let path = [self.urls[mount].trim_end_matches('/').as_bytes(), b"/", name].concat();
        cache_control::value(&self.settings.cache, &path, is_hashed)
    }

    fn nothing_at(&self, mount: usize) -> Outcome {
        if self.urls[mount] == "/" { Outcome::NotMine } else { Outcome::NotFound }
    }
}

/// The URLs, the longest first, and their directories in the same order.
fn open_all(mounts: &[Mount], symlinks: open::Symlinks, errors: &mut Vec<FileSetupError>) -> (Vec<String>, Vec<Root>) {
    let mut mounts: Vec<&Mount> = mounts.iter().collect();
    mounts.sort_by_key(|mount| std::cmp::Reverse(mount.url.len()));
    let (mut urls, mut roots) = (Vec::new(), Vec::new());
    for mount in mounts {
        let url = mount.url.clone();
        if !url.starts_with('/') || (url.len() > 1 && url.ends_with('/')) {
            errors.push(FileSetupError::Url { url });
            continue;
        }
        if urls.contains(&url) {
            errors.push(FileSetupError::Duplicate { url });
            continue;
        }
        match Root::open(mount.directory.clone(), url.clone(), symlinks) {
            Ok(root) => {
                urls.push(url);
                roots.push(root);
            }
            Err(source) => errors.push(setup_error(mount, source)),
        }
    }
    (urls, roots)
}

fn setup_error(mount: &Mount, source: io::Error) -> FileSetupError {
    let (url, directory) = (mount.url.clone(), mount.directory.clone());
    match source.kind() {
        io::ErrorKind::NotFound => FileSetupError::Missing { url, directory },
        io::ErrorKind::NotADirectory => FileSetupError::NotADirectory { url, directory },
        _ => FileSetupError::Open { url, directory, source },
    }
}

/// 301 to the same path with a slash.
fn redirect(path: &str, query: Option<&str>) -> Response<Body> {
    // Two slashes at the start would send the client to another host.
    let path = path.trim_start_matches('/');
    let location = match query {
        Some(query) => format!("/{path}/?{query}"),
        None => format!("/{path}/"),
    };
    let mut response = Response::new(Body::empty());
    match HeaderValue::try_from(location) {
        Ok(location) => {
            *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
            response.headers_mut().insert(LOCATION, location);
        }
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    response
}
