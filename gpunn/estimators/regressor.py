"""`MLPRegressor`, with scikit-learn's interface."""

from collections.abc import Sequence
from typing import Any, ClassVar, Self, final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from gpunn.estimators.base import Perceptron
from gpunn.estimators.parameters import CONSTRAINTS, trains_in_steps


@final
class MLPRegressor(RegressorMixin, Perceptron):
    """Multi-layer perceptron regressor, a drop-in replacement for `sklearn.neural_network.MLPRegressor`.

    `y` (n,) or (n, n_L) are numbers, one or several per example. The outputs are linear, and the loss is half the
    squared error, averaged over outputs. With the same `random_state`, scikit-learn trains the same network: equal up
    to rounding with engine="plain", and closely in float32, except for Adam's steps with gradients near 0.

    Parameters
    ----------
    loss : {"squared_error"}, default "squared_error"
        Loss function; the first parameter, as in scikit-learn since 1.7. "poisson" is not supported: use scikit-learn.
    hidden_layer_sizes : array-like of int, or int, default (100,)
        Number of neurons of each hidden layer; () for no hidden layer.
    activation : {"identity", "logistic", "tanh", "relu"}, default "relu"
        Activation function of the hidden layers.
    solver : {"sgd", "adam"}, default "adam"
        SGD, with momentum if `momentum` is above 0, or Adam. "lbfgs" is not supported: use scikit-learn.
    alpha : float, default 1e-4
        L2 penalty; a batch's is alpha / 2 times the sum of the squared weights, divided by the batch size.
    batch_size : int or "auto", default "auto"
        Batch size; "auto" is min(200, n).
    learning_rate : {"constant", "invscaling", "adaptive"}, default "constant"
        Schedule of "sgd": constant `learning_rate_init`; learning_rate_init / (t + 1)^power_t in an epoch after t
        examples; or divided by 5 whenever training stalls.
    learning_rate_init, power_t : float, default 1e-3, 0.5
        See `learning_rate`; Adam uses the first one too.
    max_iter : int, default 200
        Maximum number of epochs.
    shuffle : bool, default True
        Whether to shuffle the examples in each epoch.
    random_state : int, RandomState or None, default None
        Seed of the initial network, the shuffling and the held-out examples, drawn as in scikit-learn.
    tol, n_iter_no_change : float, default 1e-4; int or inf, default 10
        Training stalls if loss or score hasn't improved by `tol` for more than `n_iter_no_change` epochs.
    verbose : bool or int, default False
        Whether to print one line an epoch.
    warm_start : bool, default False
        Whether `fit` resumes from the network of the previous call.
    momentum, nesterovs_momentum : float, default 0.9; bool, default True
        Momentum of "sgd", at least 0 and below 1, and whether to use Nesterov's.
    early_stopping : bool, default False
        Whether to stop training, and choose the network to keep, by the score on held-out examples.
    validation_fraction : float, default 0.1
        Fraction of the examples to hold out.
    beta_1, beta_2, epsilon : float, default 0.9, 0.999, 1e-8
        Parameters of "adam".
    max_fun : int, default 15000
        Parameter of "lbfgs", unused.
    device : str, default "auto"
        Device to train on: "cpu", "cuda", "cuda:N", or "auto", the one that is estimated to do `max_iter` epochs
        first. Predictions need no GPU.
    engine : {"auto", "plain", "fused", "epoch"}, default "auto"
        Implementation: "plain" trains in the precision of X, with the same steps as scikit-learn; the others in
        float32. "auto" is "plain" if an epoch is little work, otherwise the fastest that supports the settings, in
        float32.

    Attributes
    ----------
    coefs_, intercepts_ : list of arrays
        Weights (n_in, n_out) and biases (n_out,) of each layer; float32, or with "plain" the dtype of X.
    loss_, loss_curve_, best_loss_ : float, list of float, float or None
        Loss with the L2 penalty: of the last epoch, of every epoch, and the lowest (None with early stopping).
    validation_scores_, best_validation_score_ : list of float, float; both None without early stopping
        Coefficients of determination R^2 on the held-out examples.
    n_iter_, t_ : int
        Epochs of the last `fit`, and examples seen since the network was drawn.
    n_features_in_, n_layers_, n_outputs_, out_activation_, feature_names_in_
        As in scikit-learn; the last one if X has column names.
    device_, engine_ : str
        Device and engine of the last `fit`.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "loss": [StrOptions({"squared_error", "poisson"})],
        **CONSTRAINTS,
    }

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        device: str = "auto",
        engine: str = "auto",
    ) -> None:
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.device = device
        self.engine = engine

    @available_if(trains_in_steps)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one more epoch on these examples; return the estimator.

        `X`, `y`, `sample_weight` and errors are those of `fit`. Parameters changed since the last call take effect.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the prediction for each example, floats (n,), or (n, n_L) for several outputs; `X` as in `fit`."""
        found = self._outputs(X)
        return found if found.shape[1] > 1 else found.ravel()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    _numeric_targets: ClassVar[bool] = True

    def _encoded(
        self,
        y: NDArray[Any],
        *,
        goes_on: bool,  # noqa: ARG002 - only used for classes
        incremental: bool,  # noqa: ARG002
        classes: Any,  # noqa: ARG002
    ) -> tuple[NDArray[Any], int]:
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        rows = y.reshape(len(y), -1)
        return rows, rows.shape[1]

    def _output_function(self) -> str:
        return "identity"

    def _score_of(self, outputs: NDArray[Any], targets: NDArray[Any], weights: NDArray[Any] | None) -> float:
        return float(r2_score(targets, outputs, sample_weight=weights))
