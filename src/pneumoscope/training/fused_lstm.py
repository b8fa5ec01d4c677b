"""An LSTM layer that trains faster with recurrent dropout, by the same mathematics.

Keras leaves the derivative of such a layer to automatic differentiation: every step of the sequence multiplies its
input by the kernel and adds its share to the gradients of both kernels. Here only the product that needs the step
before it is left in the loop; the products with the input and the gradients of the kernels are one matrix product
over all steps. The weights, the masks and the state of the random generator are those of Keras's layer.

Reference: Appleyard, Kočiský and Blunsom, "Optimizing performance of recurrent neural networks on GPUs", 2016; the
derivative in closed form after Hochreiter and Schmidhuber, "Long short-term memory", 1997.
"""

import tensorflow as tf
from keras import activations, layers

GATES = 4  # input, forget, candidate, output: the order of Keras's kernels


class FusedLSTM(layers.LSTM):
    """Keras's LSTM with dropout and recurrent dropout, tanh and sigmoid; anything but training is left to Keras."""

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """Run the sequence; Keras calls this once its dropout masks are drawn.

        Args:
            sequences: (N, T, D) float32.
            initial_state: h and c, (N, U) float32 each.
            mask: of steps to skip; such sequences are left to Keras.
            training: with dropout.

        Returns:
            The last output (N, U), the outputs (N, T, U) or, without ``return_sequences``, (N, 1, U), and the last
            h and c.
        """
        cell = self.cell
        drops = cell.dropout > 0 and cell.recurrent_dropout > 0
        plain = (cell.activation, cell.recurrent_activation) == (activations.tanh, activations.sigmoid)
        same = plain and cell.use_bias and self.compute_dtype == "float32" and not self.go_backwards
        if not (training and drops and same) or mask is not None:
            return super().inner_loop(sequences, initial_state, mask, training=training)
        outputs, state = masked_lstm(
            tf.transpose(sequences, (1, 0, 2)),
            *initial_state,
            tf.convert_to_tensor(cell.kernel),
            tf.convert_to_tensor(cell.recurrent_kernel),
            tf.convert_to_tensor(cell.bias),
            cell.get_dropout_mask(sequences[:, 0, :]),
            cell.get_recurrent_dropout_mask(initial_state[0]),
        )
        last = outputs[-1]
        return last, tf.transpose(outputs, (1, 0, 2)) if self.return_sequences else last[:, None], [last, state]


def masked_lstm(inputs, output, state, kernel, recurrent_kernel, bias, input_masks, masks):
    """An LSTM over a sequence whose input and output are masked, one mask a gate for all steps.

    Args:
        inputs: (T, N, D) float32.
        output: h before the first step, (N, U).
        state: c before the first step, (N, U).
        kernel: (D, 4 U).
        recurrent_kernel: (U, 4 U).
        bias: (4 U,).
        input_masks: four of (N, D).
        masks: four of (N, U).

    Returns:
        The outputs, (T, N, U) float32, and the last state, (N, U). Both can be differentiated by the inputs, the
        states, the kernels and the bias, not by the masks.
    """
    kernels, recurrent = tf.split(kernel, GATES, axis=1), tf.split(recurrent_kernel, GATES, axis=1)
    masked_inputs = [_flat(inputs * mask) for mask in input_masks]  # (T * N, D) each

    @tf.custom_gradient
    def run(inputs, output, state, kernel, recurrent_kernel, bias):
        driven = tf.concat([x @ weights for x, weights in zip(masked_inputs, kernels, strict=True)], axis=1) + bias
        gates, states, outputs = _forward(_steps(driven, inputs), output, state, recurrent, masks)

        def gradient(by_outputs, by_last_state):
            before = tf.concat([state[None], states[:-1]], axis=0)
            by_gates, by_output, by_state = _backward(
                gates, states, before, by_outputs, by_last_state, recurrent, masks
            )
            pieces = tf.split(_flat(by_gates), GATES, axis=1)  # (T * N, U) each
            by_inputs = [
                _steps(tf.matmul(piece, weights, transpose_b=True), inputs) * mask
                for piece, weights, mask in zip(pieces, kernels, input_masks, strict=True)
            ]
            previous = tf.concat([output[None], outputs[:-1]], axis=0)
            return (
                tf.add_n(by_inputs),
                by_output,
                by_state,
                _by_kernel(masked_inputs, pieces),
                _by_kernel([_flat(previous * mask) for mask in masks], pieces),
                tf.reduce_sum(by_gates, axis=(0, 1)),
            )

        return (outputs, states[-1]), gradient

    return run(inputs, output, state, kernel, recurrent_kernel, bias)


def _forward(driven, output, state, recurrent, masks):
    """The gates (T, N, 4 U), the states and the outputs (T, N, U) of all steps."""
    driven = _array(driven)

    def step(at, output, state, gates, states, outputs):
        fed_back = tf.concat(
            [(output * mask) @ weights for mask, weights in zip(masks, recurrent, strict=True)], axis=1
        )
        i, f, g, o = tf.split(driven.read(at) + fed_back, GATES, axis=1)
        i, f, g, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(g), tf.sigmoid(o)
        state = f * state + i * g
        output = o * tf.tanh(state)
        gates = gates.write(at, tf.concat([i, f, g, o], axis=1))
        return at + 1, output, state, gates, states.write(at, state), outputs.write(at, output)

    written = [tf.TensorArray(tf.float32, driven.size()) for _ in range(3)]
    steps = tf.while_loop(lambda at, *_: at < driven.size(), step, (0, output, state, *written), parallel_iterations=1)
    return [array.stack() for array in steps[3:]]


def _backward(gates, states, before, by_outputs, by_last_state, recurrent, masks):
    """The derivatives by the sums that enter the gates, (T, N, 4 U), and by the output and state before them."""
    i, f, g, o = tf.split(gates, GATES, axis=2)
    bent = tf.tanh(states)
    by_cell = tf.concat([g * i * (1 - i), before * f * (1 - f), i * (1 - g * g)], axis=2)
    factors = [_array(x) for x in (by_cell, bent * o * (1 - o), o * (1 - bent * bent), f, by_outputs)]

    def step(at, by_output, by_state, by_gates):
        of_cell, of_output_gate, of_state, forget, given = (factor.read(at) for factor in factors)
        by_output += given
        by_state += by_output * of_state
        by_gate = tf.concat([tf.tile(by_state, (1, GATES - 1)) * of_cell, by_output * of_output_gate], axis=1)
        parts = zip(tf.split(by_gate, GATES, axis=1), recurrent, masks, strict=True)
        by_output = tf.add_n([tf.matmul(part, weights, transpose_b=True) * mask for part, weights, mask in parts])
        return at - 1, by_output, by_state * forget, by_gates.write(at, by_gate)

    length = tf.shape(gates)[0]
    start = (length - 1, tf.zeros_like(by_last_state), by_last_state, tf.TensorArray(tf.float32, length))
    _, by_output, by_state, by_gates = tf.while_loop(lambda at, *_: at >= 0, step, start, parallel_iterations=1)
    return by_gates.stack(), by_output, by_state


def _by_kernel(masked, pieces):
    return tf.concat([tf.matmul(x, piece, transpose_a=True) for x, piece in zip(masked, pieces, strict=True)], axis=1)


def _array(x):
    return tf.TensorArray(tf.float32, tf.shape(x)[0]).unstack(x)


def _flat(x):
    return tf.reshape(x, (-1, x.shape[-1]))


def _steps(flat, like):
    return tf.reshape(flat, (*tf.unstack(tf.shape(like)[:2]), flat.shape[-1]))
