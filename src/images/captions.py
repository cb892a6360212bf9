"""Titles and descriptions of the pictures and tables in reports on images, by file name."""

PICTURES = {
    "confusion_matrix": (
        "Confusion matrix",
        "The number of test images of {name} by actual class (rows) and predicted class (columns); correct"
        " predictions are on the diagonal.",
    ),
    "predictions": ("Predicted and actual", "The numbers of the test images of {name}."),
    "most_wrong": (
        "Most wrong",
        "The misclassified test images of {name} with the highest predicted probability: above each the"
        " predicted class, its probability and, in brackets, the actual class. Of a regression or several"
        " labels an image those with the largest errors, with the actual numbers or labels in brackets.",
    ),
    "reliability": (
        "Reliability",
        "The share of right answers over the probability of the answer for the test images of {name}; on the"
        " diagonal they are equal.",
    ),
    "occlusion": (
        "What the answer depends on",
        "Test images of {name}, each below its predicted class, and the places where a grey patch lowers the"
        " probability of that class (red) or raises it (blue).",
    ),
    "sheet": ("Training images", "Training images of {name}, each below its class."),
    "feature_maps": (
        "Feature maps",
        "A test image of {name} and, in one row per layer, the first feature maps of it.",
    ),
    "differences": (
        "Errors of finite differences",
        "The error of gradients by finite differences over the step size.",
    ),
}

TABLES = {
    "classes": "Scores of each class",
    "confused": "Classes that are confused most often",
    "gradients": "Gradient by autograd, by hand and by finite differences",
}
