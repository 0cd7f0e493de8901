strength => {
  document.documentElement.style.setProperty('--strength', strength / 100);
}
