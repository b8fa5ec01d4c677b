"""The bodies of the service's answers, for its own description (OpenAPI)."""

from typing import Literal

from pydantic import BaseModel, Field

from pneumoscope import RESEARCH_USE_ONLY
from pneumoscope.inference.explain import GRAD_CAM


class Heatmap(BaseModel):
    """Grad-CAM for the predicted class."""

    label: str = Field(description="the class that the map is for")
    method: str = GRAD_CAM
    values: list[list[float]] | None = Field(None, description="rows of the map, zero or above, with ?heatmap=json")
    png: str | None = Field(None, description="overlay as base64 of a PNG file, with ?heatmap=png")


class ImagePrediction(BaseModel):
    """What a model says of one image; the fields of the command line's JSON."""

    path: str = Field(description="file name as sent")
    label: Literal["NORMAL", "PNEUMONIA"] | None = Field(description="null when not judged")
    probability: float | None = Field(ge=0, le=1, description="of pneumonia")
    threshold: float = Field(description="from this probability on the label is PNEUMONIA")
    model: str
    status: Literal["ok", "uncertain", "rejected", "error"]
    reason: str = Field(description="one sentence for every status but ok")
    bacterial: float | None = Field(description="if it is a pneumonia, the probability that it is bacterial")
    prevalence: float | None = Field(description="share of pneumonia that the probability assumes")
    image_sha256: str
    model_sha256: str
    heatmap: Heatmap | None = Field(None, description="null unless asked for, and for models without a feature map")


class Predictions(BaseModel):
    """The answer to a request: one entry an image, in the order they were sent."""

    predictions: list[ImagePrediction]
    notice: str = RESEARCH_USE_ONLY


class Problem(BaseModel):
    """RFC 9457."""

    type: str = "about:blank"
    title: str = Field(examples=["Unprocessable Entity"])
    status: int = Field(examples=[422])
    detail: str = Field(
        description="what was expected, what came, what to do",
        examples=["expected at least 64 pixels a side, received 40x40: send the full-size radiograph"],
    )
