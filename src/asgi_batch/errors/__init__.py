"""
Every error of asgi_batch, in one tree; it raises none of them itself.

AsgiBatchError
├── ConfigurationError            a wrong argument, raised at construction
├── OutcomeUnknown                raised by a transaction that cannot tell whether it was committed
├── BulkError                     a bulk function that is not called, or does not answer, as it must
├── BatchRefused                  the whole batch; becomes a problem+json answer
│   ├── InvalidJSON                   400 invalid_json
│   ├── InvalidUnicode                400 invalid_unicode
│   ├── JSONTooDeep                   400 json_too_deep
│   ├── DuplicateKey                  400 duplicate_key
│   ├── NestedBatch                   400 nested_batch
│   ├── CrossSiteRequest              403 cross_site_request
│   ├── MethodNotAllowed              405 method_not_allowed
│   ├── RequestTimeout                408 request_timeout
│   ├── PayloadTooLarge               413 payload_too_large
│   ├── TooManyOperations             413 too_many_operations
│   ├── UnsupportedMediaType          415 unsupported_media_type
│   ├── UnsupportedContentEncoding    415 unsupported_content_encoding
│   ├── InvalidBatch                  422 invalid_batch, with the list of problems
│   ├── AtomicNotSupported            422 atomic_not_supported
│   ├── AtomicRequired                422 atomic_required
│   ├── InvalidParameter              400 invalid_parameter
│   ├── CredentialsRefused            422 credentials_refused
│   ├── IdempotencyKeyReused          422 idempotency_key_reused
│   ├── BatchNotFound                 404 batch_not_found
│   ├── BatchNotFinished              409 batch_not_finished
│   ├── NothingToRetry                409 nothing_to_retry
│   ├── OperationsErased              410 operations_erased
│   ├── TransactionUnavailable        503 transaction_unavailable
│   ├── RateLimited                   429 rate_limited
│   ├── RateLimitUnavailable          503 rate_limit_unavailable
│   ├── TooManyBatches                429 too_many_batches
│   ├── OwnerUnknown                  503 owner_unknown
│   ├── RecordCorrupt                 500 record_corrupt
│   ├── Overloaded                    503 overloaded
│   ├── BackgroundUnavailable         503 background_unavailable
│   ├── StoreUnavailable              503 store_unavailable
│   ├── StoreFull                     503 store_full
│   └── WrongProcess                  503 wrong_process
├── ClientError                   raised by `asgi_batch.client`, and so are those below it
│   ├── RequestRefused                the server has refused a request
│   ├── OperationFailed               a result whose status is looked at
│   ├── AnswerUnreadable              what has answered is no batch endpoint
│   ├── BatchFailed                   a batch in the background without all of its results
│   └── ResultNotReady                a result that is asked for too early
└── OperationAborted              raised into the wrapped app by ``send()``

An error of one operation is not an exception but a `Failure` (`_core/failures.py`): it becomes
that operation's result and touches nothing else.
"""

from asgi_batch.errors._base import (
    AsgiBatchError,
    BatchRefused,
    BulkError,
    ConfigurationError,
    OperationAborted,
    OutcomeUnknown,
)
from asgi_batch.errors._client import (
    AnswerUnreadable,
    BatchFailed,
    ClientError,
    OperationFailed,
    RequestRefused,
    ResultNotReady,
)
from asgi_batch.errors._later import (
    BackgroundUnavailable,
    BatchNotFinished,
    BatchNotFound,
    CredentialsRefused,
    IdempotencyKeyReused,
    NothingToRetry,
    OperationsErased,
    OwnerUnknown,
    RecordCorrupt,
    StoreFull,
    StoreUnavailable,
    TooManyBatches,
    TransactionUnavailable,
    WrongProcess,
)
from asgi_batch.errors._request import (
    AtomicNotSupported,
    AtomicRequired,
    CrossSiteRequest,
    DuplicateKey,
    InvalidBatch,
    InvalidJSON,
    InvalidParameter,
    InvalidUnicode,
    JSONTooDeep,
    MethodNotAllowed,
    NestedBatch,
    Overloaded,
    PayloadTooLarge,
    RateLimited,
    RateLimitUnavailable,
    RequestTimeout,
    TooManyOperations,
    UnsupportedContentEncoding,
    UnsupportedMediaType,
)

__all__ = [
    "AnswerUnreadable",
    "AsgiBatchError",
    "AtomicNotSupported",
    "AtomicRequired",
    "BackgroundUnavailable",
    "BatchFailed",
    "BatchNotFinished",
    "BatchNotFound",
    "BatchRefused",
    "BulkError",
    "ClientError",
    "ConfigurationError",
    "CredentialsRefused",
    "CrossSiteRequest",
    "DuplicateKey",
    "IdempotencyKeyReused",
    "InvalidBatch",
    "InvalidJSON",
    "InvalidParameter",
    "InvalidUnicode",
    "JSONTooDeep",
    "MethodNotAllowed",
    "NestedBatch",
    "NothingToRetry",
    "OperationAborted",
    "OperationFailed",
    "OperationsErased",
    "OutcomeUnknown",
    "Overloaded",
    "OwnerUnknown",
    "PayloadTooLarge",
    "RateLimitUnavailable",
    "RateLimited",
    "RecordCorrupt",
    "RequestRefused",
    "RequestTimeout",
    "ResultNotReady",
    "StoreFull",
    "StoreUnavailable",
    "TooManyBatches",
    "TooManyOperations",
    "TransactionUnavailable",
    "UnsupportedContentEncoding",
    "UnsupportedMediaType",
    "WrongProcess",
]
