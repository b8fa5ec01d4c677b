"""Bodies of requests and answers, for the description of the service (OpenAPI)."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from pneumoscope import RESEARCH_USE_ONLY
from pneumoscope.inference.explain import GRAD_CAM

#: The content of a body that is one file.
BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}


class Heatmap(BaseModel):
    """Where the evidence for the predicted class lies."""

    label: str = Field(description="the class that the map is for")
    method: str = GRAD_CAM
    values: list[list[float]] | None = Field(None, description="rows of the map, zero or above, with ?heatmap=json")
    lungs: list[list[float]] | None = Field(
        None, description="rows of the lung field, 0 to 1, with ?heatmap=json; null for models that learn none"
    )
    png: str | None = Field(None, description="overlay as base64 of a PNG file, with ?heatmap=png")


class ImagePrediction(BaseModel):
    """The prediction for one image, with the same fields as the JSON of the command line."""

    path: str = Field(description="file name, as the client sent it")
    label: Literal["NORMAL", "PNEUMONIA"] | None = Field(description="null if the image was not judged")
    probability: float | None = Field(ge=0, le=1, description="of pneumonia")
    threshold: float = Field(description="the label is PNEUMONIA from this probability on")
    model: str
    status: Literal["ok", "uncertain", "rejected", "error"]
    reason: str = Field(description="one sentence for every status but ok")
    note: str = Field(description="what was assumed about the file; mostly empty")
    bacterial: float | None = Field(description="probability that a pneumonia is bacterial")
    prevalence: float | None = Field(description="share of pneumonia among the patients that the probability assumes")
    image_sha256: str
    model_sha256: str
    code: str = Field(description="why the image was not judged, see the reference; empty if it was judged")
    study_instance_uid: str = Field(description="of a DICOM file; empty for other images")
    series_instance_uid: str
    sop_instance_uid: str
    accession_number: str = Field(description="always empty over HTTP")
    heatmap: Heatmap | None = Field(None, description="null if not asked for, or if the model gives no map")


class Predictions(BaseModel):
    """The answer to a request: one entry for each image, in the order of the request."""

    predictions: list[ImagePrediction]
    notice: str = RESEARCH_USE_ONLY


class Model(BaseModel):
    """A model that the service offers."""

    name: str
    sha256: str = Field(description="of the model file")
    labels: list[str] = Field(description="in the order of the outputs")
    input: list[int] = Field(description="shape of one image, without the batch")
    operating_points: dict[str, float] = Field(description="thresholds by name, at this prevalence")
    threshold: float = Field(description="the operating point that is used if a request names none")
    prevalence: float | None = Field(description="share of pneumonia that the probabilities assume")
    heatmap: bool = Field(description="whether it gives maps of its evidence")
    metrics: dict[str, Any] | None = Field(description="figures on held-out patients")


class ModelCard(Model):
    """A model with all metadata of its file."""

    contract: dict[str, Any] = Field(description="see the reference of the model file")


class Models(BaseModel):
    """The models, the default one first."""

    models: list[Model]


class Samples(BaseModel):
    """Names of the bundled radiographs."""

    samples: list[str]


class Health(BaseModel):
    """The service answers."""

    status: Literal["ok"]


class Problem(BaseModel):
    """An error, as in RFC 9457."""

    type: str = "about:blank"
    title: str = Field(examples=["Unprocessable Entity"])
    status: int = Field(examples=[422])
    detail: str = Field(
        description="what was expected, what came, what to do",
        examples=["expected at least 64 pixels a side, received 40x40: send the full-size radiograph"],
    )
    code: str = Field(description="for programs: it stays when the sentence changes", examples=["too_small"])
    prediction: ImagePrediction | None = Field(None, description="with status 422: the only image of the request")
