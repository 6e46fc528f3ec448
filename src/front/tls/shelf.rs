//! The certificates in use: read from their files, chosen by name in each handshake, replaced when the files change.

use super::CertificateFiles;
use super::certificate::{self, Certificate, CertificateError, CertificateWarning, Moment};
use super::choice::Choice;
use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module.
#[derive(Debug)]
pub(super) struct Shelf {
    provider: Arc<CryptoProvider>,
    /// Only for those who fill it; handshakes look at `hands_out`.
    places: Mutex<Vec<Place>>,
    hands_out: ArcSwap<HandsOut>,
}

/// One certificate and the files that it came from.
#[derive(Debug)]
struct Place {
    files: CertificateFiles,
    /// Of the files as they were when they were read last, whatever came of it.
    print: u64,
    certificate: Certificate,
}

/// What a handshake needs.
#[derive(Debug)]
struct HandsOut {
    keys: Vec<Arc<CertifiedKey>>,
    choice: Arc<Choice>,
}

/// A certificate as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// For whom it is.
    pub label: String,
    pub file: PathBuf,
    pub not_after: Moment,
    /// Of the certificate: two that say the same of themselves are still two.
    print: u64,
}

impl Described {
    pub(super) fn announcement(&self) -> String {
        format!("new certificate for {} from {}, valid until {}", self.label, self.file.display(), self.not_after)
    }
}

/// Files that are not what they were.
#[derive(Debug)]
pub(super) struct Changed {
    index: usize,
    print: u64,
    read: Result<Certificate, CertificateError>,
}

impl Changed {
    pub(super) fn is_usable(&self) -> bool {
        self.read.is_ok()
    }
}

/// What came of a change.
#[derive(Debug)]
pub(super) enum News {
    /// New handshakes get it.
    InUse(Described),
    /// The one before stays.
    Refused { before: Described, error: CertificateError },
}

impl Shelf {
    /// Reads all of them; all errors are reported at once.
    pub(super) fn fill(
        files: &[CertificateFiles],
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, Vec<CertificateError>> {
        let (mut places, mut errors) = (Vec::new(), Vec::new());
        for files in files {
            let print = print(files);
            match certificate::load(files, provider) {
                Ok(certificate) => places.push(Place { files: files.clone(), print, certificate }),
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let hands_out = ArcSwap::from_pointee(HandsOut::of(&places));
        Ok(Self { provider: Arc::clone(provider), places: Mutex::new(places), hands_out })
    }

    fn places(&self) -> MutexGuard<'_, Vec<Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn files(&self) -> Vec<CertificateFiles> {
        self.places().iter().map(|place| place.files.clone()).collect()
    }

    pub(super) fn described(&self) -> Vec<Described> {
        self.places().iter().map(Place::describe).collect()
    }

    /// Which certificate is for which name now, where there are several.
    pub(super) fn choice(&self) -> Option<Arc<Choice>> {
        let hands_out = self.hands_out.load();
        (hands_out.keys.len() > 1).then(|| Arc::clone(&hands_out.choice))
    }

    pub(super) fn warnings(&self, now: i64) -> Vec<CertificateWarning> {
        let places = self.places();
        places
            .iter()
            .filter_map(|Place { files, certificate, .. }| {
                certificate.validity.warning(&files.certificate, &certificate.label, now)
            })
            .collect()
    }

    /// Reads the files that are not what they were when they were read last.
    pub(super) fn look(&self) -> Vec<Changed> {
        let places = self.places();
        let places = places.iter().enumerate().map(|(index, place)| (index, place, print(&place.files)));
        places
            .filter(|(_, place, now)| place.print != *now)
            .map(|(index, place, print)| Changed {
                index,
                print,
                read: certificate::load(&place.files, &self.provider),
            })
            .collect()
    }

    /// Uses what can be used, from the next handshake on. What cannot is not told of again until it changes.
    pub(super) fn adopt(&self, changes: Vec<Changed>) -> Vec<News> {
        let mut places = self.places();
        let mut news = Vec::new();
        for Changed { index, print, read } in changes {
            let Some(place) = places.get_mut(index) else { continue };
            place.print = print;
            match read {
                // Touched, or written again as it was.
                Ok(certificate) if certificate.key.cert == place.certificate.key.cert => {
                    place.certificate = certificate;
                }
                Ok(certificate) => {
                    place.certificate = certificate;
                    news.push(News::InUse(place.describe()));
                }
                Err(error) => news.push(News::Refused { before: place.describe(), error }),
            }
        }
        self.hands_out.store(Arc::new(HandsOut::of(&places)));
        news
    }
}

impl Place {
    fn describe(&self) -> Described {
        let Self { files, certificate, .. } = self;
        let mut hasher = DefaultHasher::new();
        certificate.leaf().hash(&mut hasher);
        Described {
            label: certificate.label.clone(),
            file: files.certificate.clone(),
            not_after: Moment(certificate.validity.not_after),
            print: hasher.finish(),
        }
    }
}

impl HandsOut {
    fn of(places: &[Place]) -> Self {
        let certificates = || places.iter().map(|place| &place.certificate);
        Self {
            keys: certificates().map(|certificate| Arc::clone(&certificate.key)).collect(),
            choice: Arc::new(Choice::new(certificates().map(|certificate| certificate.names.as_slice()))),
        }
    }
}

impl ResolvesServerCert for Shelf {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let HandsOut { keys, choice } = &**self.hands_out.load();
        let candidates = choice.candidates(hello.server_name()).iter().filter_map(|&index| keys.get(index));
        let mut fitting = candidates.clone().filter(|key| key.key.choose_scheme(hello.signature_schemes()).is_some());
        // With none that fits, the first: the handshake then fails with the right alert.
        fitting.next().or_else(|| candidates.clone().next()).cloned()
    }
}

/// What shows that files have changed. By content: a time stamp may be kept, or come again within one tick of the clock.
fn print(files: &CertificateFiles) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in [&files.certificate, &files.key] {
        std::fs::read(file).map_err(|error| error.kind()).hash(&mut hasher);
    }
    hasher.finish()
}
