//! Every function has the signature that the header declares: both must fit one array.

use crate::{
    abi, context, dlpack, exchange, graph, model, parameters, rounds, session, status, training,
};

macro_rules! same {
    ($($module:ident::$name:ident($($argument:tt),*);)*) => {
        /// Never called: it only has to compile.
        #[allow(dead_code, reason = "a check of types")]
        fn check() {
            $(let _: [unsafe extern "C" fn($($argument),*) -> _; 2] =
                [$module::$name, abi::$name];)*
        }
    };
}

same! {
    status::tn_version();
    status::tn_status_text(_);
    context::tn_context_create(_, _);
    context::tn_context_destroy(_);
    context::tn_error_message(_, _, _);
    graph::tn_graph_create(_, _);
    graph::tn_graph_destroy(_);
    graph::tn_graph_input(_, _, _, _, _, _);
    graph::tn_graph_parameter(_, _, _, _, _, _, _, _, _);
    graph::tn_graph_state(_, _, _, _, _, _);
    graph::tn_graph_constant(_, _, _, _, _, _, _);
    dlpack::tn_graph_parameter_dlpack(_, _, _, _, _, _);
    graph::tn_graph_add(_, _, _, _, _, _, _, _, _);
    graph::tn_graph_send(_, _, _, _, _);
    graph::tn_graph_receive(_, _, _, _, _, _, _);
    graph::tn_graph_output(_, _, _);
    graph::tn_graph_set_trainable(_, _, _);
    graph::tn_graph_shape(_, _, _, _);
    graph::tn_graph_dump(_, _);
    graph::tn_graph_graphviz(_, _);
    model::tn_model_load(_, _, _);
    model::tn_model_destroy(_);
    session::tn_plan_graph(_, _, _, _);
    session::tn_plan_model(_, _, _, _);
    session::tn_session_create(_, _, _, _);
    session::tn_session_from_model(_, _, _, _);
    session::tn_session_destroy(_);
    session::tn_session_plan(_, _);
    training::tn_session_write(_, _, _, _);
    training::tn_session_stage(_, _, _, _);
    training::tn_session_take(_);
    training::tn_session_read(_, _, _, _);
    dlpack::tn_session_dlpack(_, _, _, _);
    training::tn_session_step(_, _, _);
    training::tn_session_forward(_, _);
    training::tn_session_evaluate(_, _, _);
    parameters::tn_session_parameter_count(_, _, _);
    parameters::tn_session_parameter(_, _, _);
    parameters::tn_session_trainable_size(_, _);
    parameters::tn_session_get_trainable(_, _, _);
    parameters::tn_session_set_trainable(_, _, _);
    parameters::tn_session_get_gradients(_, _, _);
    rounds::tn_session_get_kept(_, _, _, _);
    rounds::tn_session_set_kept(_, _, _, _);
    rounds::tn_session_begin_round(_);
    rounds::tn_session_renew_control(_);
    rounds::tn_session_outer_step(_);
    training::tn_session_set_memory_budget(_, _);
    training::tn_session_save(_, _, _);
    training::tn_session_load(_, _, _);
    exchange::tn_model_empty(_, _, _);
    exchange::tn_parameters_count(_, _, _, _);
    exchange::tn_parameters_read(_, _, _, _);
    exchange::tn_parameters_write(_, _, _, _);
    exchange::tn_parameters_difference(_, _, _, _, _);
    exchange::tn_parameters_add(_, _, _, _, _);
    exchange::tn_update_accumulate(_, _, _, _, _);
    exchange::tn_update_average(_, _, _, _);
    exchange::tn_update_bound(_, _, _, _);
    exchange::tn_update_compress(_, _, _, _, _, _, _, _);
    exchange::tn_update_inspect(_, _, _, _);
    exchange::tn_update_add(_, _, _, _, _, _);
    exchange::tn_secure_encode(_, _, _, _, _, _);
    exchange::tn_secure_mask(_, _, _, _, _);
    exchange::tn_secure_add(_, _, _, _);
    exchange::tn_secure_decode(_, _, _, _, _, _);
    exchange::tn_submodel_count(_, _, _);
    exchange::tn_submodel_extract(_, _, _, _, _, _);
    exchange::tn_submodel_add(_, _, _, _, _, _, _, _);
}
