"""`MLPClassifier`, with scikit-learn's interface."""

from collections.abc import Sequence
from typing import Any, ClassVar, Self, final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call

from gpunn.estimators.base import Perceptron
from gpunn.estimators.labels import Labels
from gpunn.estimators.parameters import CONSTRAINTS, trains_in_steps


@final
class MLPClassifier(ClassifierMixin, Perceptron):
    """A multi-layer perceptron that classifies, in place of `sklearn.neural_network.MLPClassifier`.

    `y` (n,) are labels of any kind, or (n, k) zeros and ones: which of k classes an example belongs to, any number of
    them. The outputs are softmax, with the cross-entropy; for two classes one sigmoid, and for (n, k) k of them, with
    the binary cross-entropy. From the same `random_state` scikit-learn makes the same network in as many epochs: to
    rounding with engine="plain", and closely in float32, but for Adam's steps where gradients are nearly 0. Losses
    aren't clipped where outputs saturate, as they are there, so that training may end at another epoch.

    Parameters
    ----------
    hidden_layer_sizes : array-like of int, or int, default (100,)
        How many neurons each hidden layer has; () for none.
    activation : {"identity", "logistic", "tanh", "relu"}, default "relu"
        What they compute of their inputs.
    solver : {"sgd", "adam"}, default "adam"
        SGD, with momentum if `momentum` is above 0, or Adam. "lbfgs" is left to scikit-learn.
    alpha : float, default 1e-4
        The L2 penalty of a batch: alpha / 2 times the sum of the squared weights, divided by the batch's examples.
    batch_size : int or "auto", default "auto"
        How many examples a step averages over; "auto" is min(200, n).
    learning_rate : {"constant", "invscaling", "adaptive"}, default "constant"
        With "sgd": `learning_rate_init`; in an epoch that t examples came before, learning_rate_init / (t + 1)^power_t;
        or a fifth of what it was whenever training stalls.
    learning_rate_init, power_t : float, default 1e-3, 0.5
        See `learning_rate`; the first one is Adam's too.
    max_iter : int, default 200
        How many epochs there are at most.
    shuffle : bool, default True
        Whether each epoch sees the examples in a new order.
    random_state : int, RandomState or None, default None
        What the first network, the order of examples and those held out are drawn from, as scikit-learn draws them.
    tol, n_iter_no_change : float, default 1e-4; int or inf, default 10
        Training stalls when loss, or score, hasn't improved by `tol` for more than so many epochs.
    verbose : bool or int, default False
        Whether to print a line an epoch.
    warm_start : bool, default False
        Whether `fit` goes on with the network of the call before.
    momentum, nesterovs_momentum : float, default 0.9; bool, default True
        Of "sgd": at least 0 and below 1, and whether it is Nesterov's.
    early_stopping : bool, default False
        Whether examples are held out, whose score then decides when training ends, and which network is kept.
    validation_fraction : float, default 0.1
        The share of the examples that is held out; of two classes, each keeps its share.
    beta_1, beta_2, epsilon : float, default 0.9, 0.999, 1e-8
        Of "adam".
    max_fun : int, default 15000
        Of "lbfgs", and so unused.
    device : str, default "auto"
        Where to train: "auto", "cpu", "cuda" or "cuda:N", see `gpunn.get_backend`. Predictions need no GPU.
    engine : {"auto", "plain", "fused", "epoch"}, default "auto"
        What trains: "plain" in the precision of X, step by step as scikit-learn; the others in float32. "auto" takes
        "plain" where an epoch is little work, and otherwise, in float32, the fastest that can do it.

    Attributes
    ----------
    classes_ : array (n_classes,)
        The labels, sorted.
    coefs_, intercepts_ : list of arrays
        The weights (n_in, n_out) and biases (n_out,) of each layer; float32, or with "plain" of the dtype of X.
    loss : str
        "log_loss", the cross-entropy.
    loss_, loss_curve_, best_loss_ : float, list of float, float or None
        The last epoch's loss, with the L2 penalty; every epoch's; the lowest, None with early stopping.
    validation_scores_, best_validation_score_ : list of float, float; both None without early stopping
        The accuracies on what is held out.
    n_iter_, t_ : int
        Epochs of the last `fit`, and examples seen since the network was drawn.
    n_features_in_, n_layers_, n_outputs_, out_activation_, feature_names_in_
        As scikit-learn's; the last one where X had names of columns.
    device_, engine_ : str
        Where the last `fit` trained, and by what.
    """

    loss: ClassVar[str] = "log_loss"
    _parameter_constraints: ClassVar[dict[str, Any]] = CONSTRAINTS

    def __init__(
        self,
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

    classes_: NDArray[Any]
    _labels: Labels

    @available_if(trains_in_steps)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train for one epoch on these examples, from where the call before ended; return the estimator.

        `X`, `y`, `sample_weight` and errors are those of `fit`. `classes` (n_classes,) are all labels that will ever be
        seen; the first call needs them, also with `y` (n, k), and later ones may leave them out.
        Parameters that were set since the call before count from now on.
        """
        return self._fit(X, y, sample_weight, incremental=True, classes=classes)

    def predict(self, X: Any) -> Any:
        """Return the label of each example, (n,), or (n, k) zeros and ones; `X` as in `fit`."""
        found = self._outputs(X)
        return self._labels.decode(found)

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return the probability of each class, (n, n_classes), floats in the order of `classes_`; `X` as in `fit`."""
        found = self._outputs(X)
        return found if found.shape[1] > 1 else np.hstack([1 - found, found])

    def predict_log_proba(self, X: Any) -> NDArray[Any]:
        """Return the logarithms of `predict_proba`; `X` as in `fit`."""
        found = self.predict_proba(X)
        with np.errstate(divide="ignore"):  # a probability may have been rounded to 0
            logarithms: NDArray[Any] = np.log(found, out=found)
        return logarithms

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    _numeric_targets: ClassVar[bool] = False

    def _encoded(self, y: NDArray[Any], *, goes_on: bool, incremental: bool, classes: Any) -> tuple[NDArray[Any], int]:
        if incremental and _check_partial_fit_first_call(self, classes):
            self._labels = Labels.of_first_part(y, self.classes_)
        if goes_on or incremental:
            self._labels.check(y, complete=self.warm_start)
        else:
            self._labels = Labels(y)
        self.classes_ = self._labels.classes
        return self._labels.encode(y), self._labels.n_outputs

    def _output_function(self) -> str:
        return self._labels.output

    def _score_of(self, outputs: NDArray[Any], targets: NDArray[Any], weights: NDArray[Any] | None) -> float:
        return self._labels.accuracy(outputs, targets, weights)
