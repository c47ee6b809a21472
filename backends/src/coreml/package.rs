//! The folder that Core ML compiles: `name.mlpackage`.
//!
//! ```text
//! Manifest.json                              what the other two are
//! Data/com.apple.CoreML/model.mlmodel        the specification, a protocol buffer
//! Data/com.apple.CoreML/weights/weight.bin   large constants
//! ```

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use prost::Message;
use tenon_runtime::{Error, Result};

use super::proto::Model;
use super::weights::Weights;

/// How a program names its file of weights.
pub const WEIGHTS: &str = "@model_path/weights/weight.bin";

/// Items have an identifier each; nothing asks that those of two packages differ.
const MANIFEST: &str = r#"{
    "fileFormatVersion": "1.0.0",
    "itemInfoEntries": {
        "7e1f3a52-0c6d-4b8e-9a41-5d2c8e6f1b01": {
            "author": "com.apple.CoreML",
            "description": "CoreML Model Specification",
            "name": "model.mlmodel",
            "path": "com.apple.CoreML/model.mlmodel"
        },
        "7e1f3a52-0c6d-4b8e-9a41-5d2c8e6f1b02": {
            "author": "com.apple.CoreML",
            "description": "CoreML Model Weights",
            "name": "weights",
            "path": "com.apple.CoreML/weights"
        }
    },
    "rootModelIdentifier": "7e1f3a52-0c6d-4b8e-9a41-5d2c8e6f1b01"
}
"#;

/// A package that is being written.
#[derive(Debug)]
pub struct Package {
    root: PathBuf,
    /// Its constants.
    pub weights: Weights<BufWriter<File>>,
}

impl Package {
    /// Begins one in the folder `root`, which is made; what is there of an earlier one is replaced.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(root: &Path) -> Result<Self> {
        let folder = data(root).join("weights");
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        // Without a manifest it is no package: a half-written one is not taken for one.
        let manifest = root.join("Manifest.json");
        if manifest.exists() {
            fs::remove_file(&manifest).map_err(at(&manifest))?;
        }
        let path = folder.join("weight.bin");
        let file = File::create(&path).map_err(at(&path))?;
        let weights = Weights::new(BufWriter::new(file)).map_err(at(&path))?;
        Ok(Self { root: root.to_owned(), weights })
    }

    /// Writes the specification, and the manifest that makes it a package.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(self, model: &Model) -> Result<()> {
        self.weights.finish().map_err(at(&self.root))?;
        for (path, bytes) in [
            (data(&self.root).join("model.mlmodel"), model.encode_to_vec()),
            (self.root.join("Manifest.json"), MANIFEST.into()),
        ] {
            fs::write(&path, bytes).map_err(at(&path))?;
        }
        Ok(())
    }
}

fn data(root: &Path) -> PathBuf {
    root.join("Data").join("com.apple.CoreML")
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}
