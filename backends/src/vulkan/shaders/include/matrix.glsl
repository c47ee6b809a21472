// Products of matrices by whole subgroups, which a device does at once: what sources with them share.

#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require

// Rows and columns of such a product and steps of its sums, which the device has at choice; invocations
// of a subgroup, all of which are there.
layout(constant_id = 3) const uint ROWS = 16u;
layout(constant_id = 4) const uint COLUMNS = 16u;
layout(constant_id = 5) const uint STEPS = 16u;
layout(constant_id = 6) const uint SUBGROUP = 32u;

// Rows and columns of results of a workgroup of 256 invocations.
const uint SIDE = 64u;
// Matrices of results side by side; those of a subgroup, which are as many wide and tall.
const uint ACROSS = SIDE / COLUMNS;
const uint OWN = SIDE / ROWS * ACROSS / (256u / SUBGROUP);
const uint WIDE = OWN < ACROSS ? OWN : ACROSS;
const uint TALL = OWN / WIDE;
// Results of a matrix, and of one matrix of each subgroup.
const uint RESULTS = ROWS * COLUMNS;
const uint STAGED = 256u / SUBGROUP * RESULTS;

// Where a subgroup's matrix (i, j) begins among the results of the workgroup.
uint matrix_row(uint i) { return (gl_SubgroupID * OWN / ACROSS + i) * ROWS; }
uint matrix_column(uint j) { return (gl_SubgroupID * OWN % ACROSS + j) * COLUMNS; }

#define LEFT(type) coopmat<type, gl_ScopeSubgroup, ROWS, STEPS, gl_MatrixUseA>
#define RIGHT(type) coopmat<type, gl_ScopeSubgroup, STEPS, COLUMNS, gl_MatrixUseB>
#define SUMS(type) coopmat<type, gl_ScopeSubgroup, ROWS, COLUMNS, gl_MatrixUseAccumulator>
