// The page works without any script; these modules spare reloads and take drops, pastes and keys.
import { followAddresses } from "./search.js";
import { takePictures } from "./intake.js";
import { showDetails } from "./details.js";
import { moveByArrows, reachTheBox } from "./keys.js";
import { weigh } from "./weights.js";
import { watchImages } from "./images.js";

document.documentElement.classList.add("js");
followAddresses();
takePictures();
showDetails();
moveByArrows();
reachTheBox();
weigh();
watchImages();
