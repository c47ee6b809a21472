//! An engine that evaluates: for tests, on any machine.

use tenon_runtime::Result;

use super::engine::{Compiled, Description, Engine};
use super::evaluate::evaluate;
use super::graph::Graph;
use super::table::Target;

/// See the [module](self). It stands for an accelerator of a target.
#[derive(Clone, Copy, Debug)]
pub struct Evaluator(pub Target);

impl Engine for Evaluator {
    fn describe(&self) -> Description {
        let (bridge, level) = match self.0 {
            Target::Nnapi(level) => ("nnapi", level),
            Target::CoreMl(opset) => ("coreml", opset),
        };
        Description { bridge, name: "evaluator".to_owned(), build: "0".to_owned(), level }
    }

    fn supported(&self, graph: &Graph) -> Result<Vec<bool>> {
        Ok(graph.nodes().iter().map(|node| self.0.takes(graph, node)).collect())
    }

    fn compile(&self, graph: &Graph, _: &[u8; 32]) -> Result<Box<dyn Compiled>> {
        graph.verify()?;
        Ok(Box::new(Evaluated(graph.clone())))
    }
}

struct Evaluated(Graph);

impl Compiled for Evaluated {
    fn run(&mut self, inputs: &[Vec<u8>], outputs: &mut [Vec<u8>]) -> Result<()> {
        let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        for (to, from) in outputs.iter_mut().zip(evaluate(&self.0, &inputs)?) {
            to.copy_from_slice(&from);
        }
        Ok(())
    }
}
