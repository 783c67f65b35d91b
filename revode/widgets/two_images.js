export default { render }
