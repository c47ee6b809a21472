//! The harness of the test suites: what several of them share.
//!
//! | module | what it does |
//! |---|---|
//! | [`golden`] | reads the answers that other programs gave |
//! | [`device`] | opens the device that suites run on |
//! | [`opinfo`] | says PyTorch's operators in Tenon's |
//! | [`models`] | lays goldens out as models, and compares their gradients |
//! | [`bert`] | a model that the runtime does not know by name |
//! | [`corpus`] | builds graphs to plan |
//! | [`bindings`] | reads the C header |
//! | [`programs`] | lists, builds and runs the C programs |
//! | [`tidy`] | the rules of the house, over any tree of files |

pub mod bert;
pub mod bindings;
pub mod corpus;
pub mod device;
pub mod golden;
pub mod models;
pub mod opinfo;
pub mod programs;
pub mod tidy;
