"""An LSTM layer that trains faster with recurrent dropout and computes the same numbers.

Keras leaves the derivative of such a layer to automatic differentiation: each step of the sequence multiplies its input
by the kernel and adds its share to the gradients of both kernels. Here the loop has only the product that depends on
the step before. The products with the input, and the gradients of the kernels, are one matrix product over all steps.
Weights, dropout masks and the state of the random generator are those of the Keras layer.

Reference: Appleyard, Kočiský and Blunsom, "Optimizing performance of recurrent neural networks on GPUs", 2016; the
derivative in closed form after Hochreiter and Schmidhuber, "Long short-term memory", 1997.
"""

from collections.abc import Sequence

from pneumoscope.training.keras_backend import Tensor, keras, tf

GATES = 4  # input, forget, candidate, output: the order of Keras's kernels


class FusedLSTM(keras.layers.LSTM):  # type: ignore[misc]  # Keras ships no annotations
    """Keras's LSTM, faster in training with dropout, recurrent dropout, tanh and sigmoid.

    With other options, and outside training, it is Keras's own layer.
    """

    def inner_loop(
        self, sequences: Tensor, initial_state: Sequence[Tensor], mask: Tensor | None, training: bool = False
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Run the sequence; Keras calls this after it has drawn its dropout masks.

        Args:
            sequences: (N, T, D) float32.
            initial_state: h and c, (N, U) float32 each.
            mask: of steps to skip; sequences with a mask go to Keras.
            training: with dropout.

        Returns:
            The last output (N, U); all outputs (N, T, U) or, without ``return_sequences``, (N, 1, U); the last h and c.
        """
        if not training or mask is not None or not self._can_be_fused():
            keras_result: tuple[Tensor, Tensor, list[Tensor]] = super().inner_loop(
                sequences, initial_state, mask, training=training
            )
            return keras_result
        cell = self.cell
        first_output, first_state = initial_state
        outputs, state = masked_lstm(
            tf.transpose(sequences, (1, 0, 2)),
            first_output,
            first_state,
            tf.convert_to_tensor(cell.kernel),
            tf.convert_to_tensor(cell.recurrent_kernel),
            tf.convert_to_tensor(cell.bias),
            cell.get_dropout_mask(sequences[:, 0, :]),
            cell.get_recurrent_dropout_mask(first_output),
        )
        last = outputs[-1]
        return last, tf.transpose(outputs, (1, 0, 2)) if self.return_sequences else last[:, None], [last, state]

    def _can_be_fused(self) -> bool:
        cell = self.cell
        activations = (cell.activation, cell.recurrent_activation)
        return bool(
            cell.dropout > 0
            and cell.recurrent_dropout > 0
            and activations == (keras.activations.tanh, keras.activations.sigmoid)
            and cell.use_bias
            and self.compute_dtype == "float32"
            and not self.go_backwards
        )


def masked_lstm(
    inputs: Tensor,
    output: Tensor,
    state: Tensor,
    kernel: Tensor,
    recurrent_kernel: Tensor,
    bias: Tensor,
    input_masks: Sequence[Tensor],
    output_masks: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:
    """An LSTM over a sequence; inputs and outputs are multiplied by masks, one mask for each gate and all steps.

    Args:
        inputs: (T, N, D) float32.
        output: h before the first step, (N, U).
        state: c before the first step, (N, U).
        kernel: (D, 4 U).
        recurrent_kernel: (U, 4 U).
        bias: (4 U,).
        input_masks: four of (N, D).
        output_masks: four of (N, U).

    Returns:
        The outputs, (T, N, U) float32, and the last state, (N, U). Both can be differentiated by the inputs, the
        states, the kernels and the bias, but not by the masks.
    """
    kernels, recurrent = tf.split(kernel, GATES, axis=1), tf.split(recurrent_kernel, GATES, axis=1)
    masked_inputs = [_merge_steps(inputs * mask) for mask in input_masks]  # (T * N, D) each

    @tf.custom_gradient  # type: ignore[untyped-decorator]  # TensorFlow ships no annotations
    def run(
        inputs: Tensor, output: Tensor, state: Tensor, kernel: Tensor, recurrent_kernel: Tensor, bias: Tensor
    ) -> Tensor:
        from_inputs = tf.concat([x @ weights for x, weights in zip(masked_inputs, kernels, strict=True)], axis=1) + bias
        gates, states, outputs = _forward(_split_steps(from_inputs, inputs), output, state, recurrent, output_masks)

        def gradient(d_outputs: Tensor, d_last_state: Tensor) -> tuple[Tensor, ...]:
            earlier_states = tf.concat([state[None], states[:-1]], axis=0)
            d_gates, d_output, d_state = _backward(
                gates, states, earlier_states, d_outputs, d_last_state, recurrent, output_masks
            )
            d_each_gate = tf.split(_merge_steps(d_gates), GATES, axis=1)  # (T * N, U) each
            d_inputs = [
                _split_steps(tf.matmul(d_gate, weights, transpose_b=True), inputs) * mask
                for d_gate, weights, mask in zip(d_each_gate, kernels, input_masks, strict=True)
            ]
            earlier_outputs = tf.concat([output[None], outputs[:-1]], axis=0)
            return (
                tf.add_n(d_inputs),
                d_output,
                d_state,
                _kernel_gradient(masked_inputs, d_each_gate),
                _kernel_gradient([_merge_steps(earlier_outputs * mask) for mask in output_masks], d_each_gate),
                tf.reduce_sum(d_gates, axis=(0, 1)),
            )

        return (outputs, states[-1]), gradient

    outputs, last_state = run(inputs, output, state, kernel, recurrent_kernel, bias)
    return outputs, last_state


def _forward(
    from_inputs: Tensor, output: Tensor, state: Tensor, recurrent: Sequence[Tensor], masks: Sequence[Tensor]
) -> list[Tensor]:
    """The gates (T, N, 4 U), the states and the outputs (T, N, U) of all steps."""
    from_inputs = _as_array(from_inputs)

    def step(
        t: Tensor, output: Tensor, state: Tensor, gates: Tensor, states: Tensor, outputs: Tensor
    ) -> tuple[Tensor, ...]:
        from_output = tf.concat(
            [(output * mask) @ weights for mask, weights in zip(masks, recurrent, strict=True)], axis=1
        )
        i, f, g, o = tf.split(from_inputs.read(t) + from_output, GATES, axis=1)
        i, f, g, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(g), tf.sigmoid(o)
        state = f * state + i * g
        output = o * tf.tanh(state)
        gates = gates.write(t, tf.concat([i, f, g, o], axis=1))
        return t + 1, output, state, gates, states.write(t, state), outputs.write(t, output)

    written = [tf.TensorArray(tf.float32, from_inputs.size()) for _ in range(3)]
    start = (0, output, state, *written)
    results = tf.while_loop(lambda t, *_: t < from_inputs.size(), step, start, parallel_iterations=1)
    return [array.stack() for array in results[3:]]


def _backward(
    gates: Tensor,
    states: Tensor,
    earlier_states: Tensor,
    d_outputs: Tensor,
    d_last_state: Tensor,
    recurrent: Sequence[Tensor],
    masks: Sequence[Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """The derivatives by the sums that enter the gates, (T, N, 4 U), and by the output and state before the first step.

    A name ``d_x`` is the derivative of the loss by ``x``.
    """
    i, f, g, o = tf.split(gates, GATES, axis=2)
    tanh_states = tf.tanh(states)
    cell_slopes = tf.concat([g * i * (1 - i), earlier_states * f * (1 - f), i * (1 - g * g)], axis=2)
    output_gate_slopes, state_slopes = tanh_states * o * (1 - o), o * (1 - tanh_states * tanh_states)
    by_step = [_as_array(x) for x in (cell_slopes, output_gate_slopes, state_slopes, f, d_outputs)]

    def step(t: Tensor, d_output: Tensor, d_state: Tensor, d_gates: Tensor) -> tuple[Tensor, ...]:
        cell_slope, output_gate_slope, state_slope, forget, d_output_here = (array.read(t) for array in by_step)
        d_output += d_output_here
        d_state += d_output * state_slope
        d_gate = tf.concat([tf.tile(d_state, (1, GATES - 1)) * cell_slope, d_output * output_gate_slope], axis=1)
        parts = zip(tf.split(d_gate, GATES, axis=1), recurrent, masks, strict=True)
        d_output = tf.add_n([tf.matmul(part, weights, transpose_b=True) * mask for part, weights, mask in parts])
        return t - 1, d_output, d_state * forget, d_gates.write(t, d_gate)

    length = tf.shape(gates)[0]
    start = (length - 1, tf.zeros_like(d_last_state), d_last_state, tf.TensorArray(tf.float32, length))
    _, d_output, d_state, d_gates = tf.while_loop(lambda t, *_: t >= 0, step, start, parallel_iterations=1)
    return d_gates.stack(), d_output, d_state


def _kernel_gradient(masked: Sequence[Tensor], d_each_gate: Sequence[Tensor]) -> Tensor:
    products = [tf.matmul(x, d_gate, transpose_a=True) for x, d_gate in zip(masked, d_each_gate, strict=True)]
    return tf.concat(products, axis=1)


def _as_array(x: Tensor) -> Tensor:
    """(T, ...) as a TensorArray of T steps."""
    return tf.TensorArray(tf.float32, tf.shape(x)[0]).unstack(x)


def _merge_steps(x: Tensor) -> Tensor:
    """(T, N, D) -> (T * N, D)."""
    return tf.reshape(x, (-1, x.shape[-1]))


def _split_steps(merged: Tensor, like: Tensor) -> Tensor:
    """(T * N, D) -> (T, N, D), with T and N of ``like``."""
    return tf.reshape(merged, (*tf.unstack(tf.shape(like)[:2]), merged.shape[-1]))
